"""The JSON mapping of protobuf (proto3 JSON), compiled from descriptors."""
