"""Hashes of what a store holds."""

from genjax.store.maintenance import hash_store


def hash_records(store):
    """The hashes of all but the audit trail, which notes what a test did."""
    return {name: digest for name, digest in hash_store(store).items() if "audit" not in name}
