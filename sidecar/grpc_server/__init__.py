"""The gRPC server: interceptors, limits of connections, health and reflection."""
