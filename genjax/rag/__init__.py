"""Answers from documents of a store, with their sources: read, cut, find, answer, check."""
