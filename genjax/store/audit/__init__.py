"""Audit, retention and erasure of records."""
