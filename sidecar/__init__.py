"""A gRPC-to-REST transcoding sidecar for the partner token exchange."""
