"""Encryption and pseudonyms."""
