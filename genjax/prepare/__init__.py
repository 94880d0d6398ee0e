"""Turn raw files into a training set that one can trust: read, clean, de-duplicate, split,
describe.
"""
