"""Problems whose answers a program verifies."""
