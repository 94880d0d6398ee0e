"""Sources that draw their pictures themselves."""
