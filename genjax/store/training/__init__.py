"""Training sets from a store, agreement between raters, and labels by classifiers."""
