"""The settings: their model, their types and their sources."""
