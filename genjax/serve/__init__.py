"""Serves runs and records of a store over HTTP."""
