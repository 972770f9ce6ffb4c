"""The web pages of the API: the reference, the problem pages, and the index at its root."""
