"""Replicas, shards, and named states of a store."""
