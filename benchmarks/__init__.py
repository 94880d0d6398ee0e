"""genjax compared with what a user would pick instead."""
