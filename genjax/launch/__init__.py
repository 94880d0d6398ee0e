"""Start a run on several machines, or write the script that does."""
