"""The gRPC server interceptors: error boundary, admission, access log and limits."""
