"""Train on the records of a store, measure agreement of raters, and label with classifiers."""
