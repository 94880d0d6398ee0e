"""Sources of generated pictures."""
