"""HTTP responses of methods with a stream of responses."""
