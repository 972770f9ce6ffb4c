"""OpenAPI 3.1 documents of services, made from their descriptors."""
