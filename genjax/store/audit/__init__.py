"""Record who did what in a chain of hashes, forget people and records, and retain by rule."""
