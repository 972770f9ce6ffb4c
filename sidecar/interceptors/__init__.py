"""The gRPC server interceptors that calls of both protocols pass."""
