"""Reloading TLS contexts: built from certificate files, and renewed when these change."""
