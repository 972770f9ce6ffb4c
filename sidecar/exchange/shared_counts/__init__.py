"""Counts of wrong secrets that all replicas share through a Redis or Valkey server."""
