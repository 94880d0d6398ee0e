"""Reports of runs: one page of HTML with curves, samples, evaluations and how to repeat them."""
