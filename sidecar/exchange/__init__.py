"""Token exchange: client authentication, the throttle, and the servicer of both protocols."""
