"""Validated settings: their model, their types, their sources and their flags."""
