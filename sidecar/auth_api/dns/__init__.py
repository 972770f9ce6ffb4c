"""The addresses of host names: look-ups by the operating system, and their answers kept."""
