"""Validated settings: their model, their types and their sources."""
