"""An in-process `grpc.aio.Channel`: calls of local handlers, with one request, without a socket.

Both sides of a call see the behaviour of grpc.aio 1.85 over a socket;
tests/in_process/test_channel.py runs the same cases over both. The package knows neither
the work of the handlers nor the types of their messages.

The only differences from a socket:
* Messages pass by reference and no (de)serializer runs, so neither side may change one.
* The handler inherits the context variables of the caller.
* A call with a timeout of zero or less never reaches the handler.
* A call fails where its caller would otherwise wait for ever: with UNKNOWN if the handler
  raises CancelledError itself or calls `abort` with OK, with INTERNAL for text under a
  -bin key.
* Handlers must be async functions, or async generators for a stream of responses. Streams of
  requests are not served. A method is called as what it is: unary, or with a stream.
* The state is SHUTDOWN as soon as `close` begins, and `close` waits for the handlers.
* A call that is no longer referenced runs to its end. One with a stream then waits for a reader
  until the channel is closed, so its caller must cancel what it does not read.
* A stream holds one message that is not read yet, not as many bytes as a window of HTTP/2.
"""

from sidecar.in_process.channel import InProcessChannel

__all__ = ["InProcessChannel"]
