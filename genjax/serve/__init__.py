"""The package serves trained runs by an API for OpenAI's clients, and by web pages."""
