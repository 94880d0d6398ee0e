"""Answer questions from the documents of a store and cite the sources."""
