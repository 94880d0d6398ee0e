"""An API on trained runs, as OpenAI's clients expect it, and the pages beside it."""
