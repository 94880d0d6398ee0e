"""Training sets out of a store, and what raters and classifiers say of its records."""
