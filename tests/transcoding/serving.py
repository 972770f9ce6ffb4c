"""What the tests of the transcoder serve: a small library, what its methods do, how errors look."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import grpc
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.status_pb2 import Status
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sidecar.transcoding import RequestError, Transcoder
from sidecar.transcoding.status import HTTP_STATUS
from tests.transcoding.library import descriptor, method, post, service

LIBRARY = service(
    method("Open", post("/v1/shelves")),
    method("Look", HttpRule(get="/v1/shelves", body="*")),
    method("Absent", post("/v1/absent")),
    method("Shut", post("/v1/shelves:shut")),
    method("Odd", post("/v1/odd/!$&'()%2A+,;=%3A@~-._")),
    method("Unbound"),
)
Receipt = GetMessageClass(descriptor("Receipt", of=LIBRARY))
# Any: the messages are made at run time.
Context = grpc.aio.ServicerContext[Any, Any]
Behavior = Callable[[Any, Context], Awaitable[Message] | AsyncIterator[Message]]
Serve = Callable[..., Awaitable[Transcoder]]
FORM = "application/x-www-form-urlencoded"
SUPPORTED = f"{FORM}, application/json"


async def echo(request: Any, _context: Context) -> Message:
    """Answer with what was asked."""
    return Receipt(name=request.name, shelf_code=request.shelf_code, copies=1)


async def refuse(_request: Any, _context: Context) -> Message:
    """Be a handler that no request may reach."""
    raise AssertionError("the handler was called")


def render(_request: Request, error: RequestError | Status) -> Response:
    """Answer with all that an error tells."""
    if isinstance(error, Status):
        details = [packed.TypeName() for packed in error.details]
        told: dict[str, Any] = {"code": error.code, "message": error.message, "details": details}
        return JSONResponse(told, status_code=HTTP_STATUS[error.code])
    told = {
        "error": type(error).__name__,
        "faults": [
            [
                violation.detail,
                violation.pointer if violation.parameter is None else violation.parameter,
            ]
            for violation in error.violations
        ],
    }
    return JSONResponse(told, status_code=error.status, headers=error.headers)


def handler_of(behavior: Behavior, library: ServiceDescriptor) -> grpc.GenericRpcHandler:
    """Return the handlers of a library of which every method is `behavior`, but for Absent.

    The methods with one request are served: for a stream of responses, `behavior` yields them.
    """
    kinds: Mapping[bool, Any] = {
        False: grpc.unary_unary_rpc_method_handler,
        True: grpc.unary_stream_rpc_method_handler,
    }
    handlers = {
        method.name: kinds[method.server_streaming](
            behavior,
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=GetMessageClass(method.output_type).SerializeToString,
        )
        for method in library.methods
        if method.name != "Absent" and not method.client_streaming
    }
    return grpc.method_handlers_generic_handler(library.full_name, handlers)


def told(**members: object) -> dict[str, object]:
    """Return a receipt as JSON."""
    empty = {"name": "", "shelfCode": "", "copies": "1", "pages": 0, "lent": False}
    rest = {"tags": [], "mood": "MOOD_UNSPECIFIED", "cover": ""}
    return empty | rest | members
