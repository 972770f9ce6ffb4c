"""A `grpc.aio.Channel` over handlers in this process: their calls without a socket.

Here belongs what a unary call shows to its two sides, as grpc.aio 1.85 has it over
a socket; tests/in_process/test_channel.py runs the same cases over both. What the handlers
do, and what their messages are, does not belong here.

It differs from a socket in this alone:
* Messages pass by reference and no (de)serializer runs: neither side changes one.
* The handler inherits the context variables of the caller.
* A timeout of zero or less never reaches the handler.
* Where a handler would leave its caller waiting for ever, the call fails: UNKNOWN for
  a CancelledError of its own and for `abort` with OK, INTERNAL for text under a -bin key.
* Handlers must be async functions, and streaming methods are not served.
* `close` shows as SHUTDOWN from its beginning and waits for the handlers.
* A call that nobody holds any more runs to its end.
"""

from sidecar.in_process.channel import InProcessChannel

__all__ = ["InProcessChannel"]
