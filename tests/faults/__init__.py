"""The fault kit: whatever may go wrong around the sidecar, made to go wrong on purpose.

What belongs here: making a fault over real sockets, and what must hold after any
fault. What the sidecar must do in one is in the tests that use the kit. An address
is a text here, "host:port", as the sidecar logs it.
"""
