"""From raw files to a training set that one can trust: read, clean, de-duplicate, split,
describe.
"""
