"""One table of requests for two transcoders, ours and Envoy's, and what must come of each."""
