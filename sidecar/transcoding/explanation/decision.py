"""Decisions of a real transcoder on requests. Its calls end here: they reach no service.

The channel of the transcoder raises the call, and its renderer raises the error, so that both
leave the transcoder before it responds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias, cast

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.rpc import code_pb2
from google.rpc.status_pb2 import Status
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Scope
from starlette.types import Message as AsgiMessage

from sidecar.transcoding.errors import RequestError
from sidecar.transcoding.metadata import Metadata
from sidecar.transcoding.options import Options
from sidecar.transcoding.status import HTTP_STATUS
from sidecar.transcoding.transcoder import Transcoder

Application: TypeAlias = ASGIApp


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call that the transcoder would make. `timeout` is in seconds."""

    message: Message
    metadata: Metadata
    timeout: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What becomes of a request: a call, an error of the transcoder, or another response.

    `status`, `detail` and `headers` are those of the response; a call has none. Of another
    response only the header Allow is kept: the rest is not about the request.
    """

    call: Call | None = None
    error: RequestError | None = None
    status: int | None = None
    detail: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


def build_transcoder(services: Mapping[ServiceDescriptor, Options]) -> Transcoder:
    """Return a transcoder for `decide`. Raises SchemaError as Transcoder does."""
    options = {service.full_name: chosen for service, chosen in services.items()}
    # The transcoder only needs the methods of a channel that prepare calls.
    channel = cast("grpc.aio.Channel", _Channel())
    return Transcoder(services, channel, options=options, render_error=_raise_error)


async def decide(app: Application, scope: Scope, body: bytes) -> Decision:
    """Return what `app`, in which a transcoder is mounted, does with the request in `scope`."""
    sent: list[AsgiMessage] = []

    async def receive() -> AsgiMessage:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: AsgiMessage) -> None:
        sent.append(message)

    try:
        await app(scope, receive, send)
    except _CallLeft as left:
        return Decision(call=left.call)
    except _ErrorLeft as left:
        return _decision_of(left.error)
    fields = Headers(raw=sent[0]["headers"])
    headers = {"Allow": fields["allow"]} if "allow" in fields else {}
    return Decision(status=sent[0]["status"], headers=headers)


def _decision_of(error: RequestError | Status) -> Decision:
    if isinstance(error, Status):
        detail = f"The gRPC status is {code_pb2.Code.Name(error.code)}."
        return Decision(status=HTTP_STATUS[error.code], detail=detail)
    return Decision(
        error=error, status=error.status, detail=error.detail, headers=dict(error.headers)
    )


class _CallLeft(Exception):  # noqa: N818 - no error: it takes the call out of the transcoder
    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call = call


class _ErrorLeft(Exception):  # noqa: N818 - as above
    def __init__(self, error: RequestError | Status) -> None:
        super().__init__()
        self.error = error


class _Channel:
    """A channel whose calls raise _CallLeft."""

    def unary_unary(self, _method: str, **_serializers: object) -> Callable[..., NoReturn]:
        """Return what raises each call."""
        return _raise_call

    unary_stream = unary_unary


def _raise_call(message: Message, *, timeout: float | None, metadata: Metadata) -> NoReturn:
    raise _CallLeft(Call(message=message, metadata=metadata, timeout=timeout))


def _raise_error(_request: Any, error: RequestError | Status) -> NoReturn:
    raise _ErrorLeft(error)
