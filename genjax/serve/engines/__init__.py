"""Text engines draw the texts of a run."""
