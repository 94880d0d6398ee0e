"""Monitoring of usage, feedback and drift."""
