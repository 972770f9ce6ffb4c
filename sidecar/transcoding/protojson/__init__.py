"""The JSON mapping of protobuf (ProtoJSON), compiled from descriptors."""
