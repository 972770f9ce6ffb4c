"""Problem documents (RFC 9457): the answers to what fails, where nothing else is made of it."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from types import MappingProxyType

from google.protobuf import descriptor_pool
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, SerializeToJsonError
from google.protobuf.message import DecodeError
from google.rpc import code_pb2
from google.rpc.error_details_pb2 import DebugInfo, RetryInfo
from google.rpc.status_pb2 import Status
from starlette.requests import Request
from starlette.responses import Response

from sidecar.transcoding import media_type
from sidecar.transcoding.errors import RequestError, Violation
from sidecar.transcoding.protojson import writer as json_writer
from sidecar.transcoding.status import HTTP_STATUS
from sidecar.transcoding.strict_json import JsonTree

# Where Python has no phrase, or one of before RFC 9110 section 15.5.14. Proxies write
# 499 when a client went away.
_TITLES: Mapping[int, str] = MappingProxyType(
    {413: "Content Too Large", 499: "Client Closed Request"}
)
_NOT_FOR_CLIENTS = frozenset(
    {code_pb2.UNKNOWN, code_pb2.INTERNAL, code_pb2.DATA_LOSS, code_pb2.UNAVAILABLE}
)
_SECOND = 1_000_000_000  # in nanoseconds


def render(
    request: Request, error: RequestError | Status, *, pools: Sequence[DescriptorPool] = ()
) -> Response:
    """Return the problem document of a request that is no call, or of a call that failed.

    There is no `type`, which stands for about:blank: the problem is what its HTTP
    status says (RFC 9457 section 4.2.1). `errors` has the faults of a request. A
    status of the service has its `code` by name, its message as `detail`, and
    those `details` whose types are in one of `pools` or the default one.

    Where the service, or what is between, is at fault the message is not told: gRPC
    puts the text of exceptions there, and the addresses of hosts. Nor is DebugInfo.

    401 demands a WWW-Authenticate field (RFC 9110 section 15.5.2). None is made
    up here, where the scheme is not known: a service that answers UNAUTHENTICATED
    needs a renderer of its own, or gives the field as metadata that is passed on.
    """
    if isinstance(error, Status):
        status, members = HTTP_STATUS.get(error.code, 500), _tell_call(error, pools)
        headers = _retry_after(error)
    else:
        status, members, headers = error.status, _tell_request(error), error.headers
    title = _TITLES.get(status) or HTTPStatus(status).phrase
    told = {name: member for name, member in members.items() if member}
    return Response(
        json_writer.encode({"title": title, "status": status, **told}),
        status_code=status,
        media_type=media_type.choose_problem(request.headers.getlist("accept")),
        headers={"Vary": "Accept", **headers},
    )


def _tell_request(error: RequestError) -> dict[str, JsonTree]:
    return {
        "detail": error.detail,
        "errors": [_write_violation(violation) for violation in error.violations],
    }


def _write_violation(violation: Violation) -> JsonTree:
    members = {
        "detail": violation.detail,
        "pointer": violation.pointer,
        "parameter": violation.parameter,
    }
    return {name: member for name, member in members.items() if member is not None}


def _tell_call(status: Status, pools: Sequence[DescriptorPool]) -> dict[str, JsonTree]:
    # As gRPC reads a code that it does not know.
    code = status.code if status.code in HTTP_STATUS else code_pb2.UNKNOWN
    details = [_tell_detail(packed, pools) for packed in status.details]
    return {
        "code": code_pb2.Code.Name(code),
        "detail": "" if code in _NOT_FOR_CLIENTS else status.message,
        "details": [detail for detail in details if detail],
    }


def _tell_detail(packed: Packed, pools: Sequence[DescriptorPool]) -> dict[str, JsonTree]:
    """Return the JSON of what is packed, with its @type; nothing of what has none."""
    if packed.TypeName() == DebugInfo.DESCRIPTOR.full_name:
        return {}
    for pool in (*pools, descriptor_pool.Default()):
        try:
            return MessageToDict(packed, descriptor_pool=pool)
        except TypeError:  # of a type that is not known
            continue
        # In turn: malformed, with a value that JSON does not have (by itself, or in a
        # field), and an Any in an Any without end.
        except (DecodeError, ValueError, SerializeToJsonError, RecursionError):
            break
    return {}


def _retry_after(status: Status) -> dict[str, str]:
    """Return the field that tells the longest RetryInfo (RFC 9110 section 10.2.3)."""
    delays = [delay for delay in map(_delay, status.details) if delay is not None]
    return {"Retry-After": str(max(delays))} if delays else {}


def _delay(packed: Packed) -> int | None:
    """Return the whole seconds that a RetryInfo asks to wait; the client must not be early."""
    retry = RetryInfo()
    with suppress(DecodeError):
        if packed.Unpack(retry) and retry.HasField("retry_delay"):
            return max(0, -(-retry.retry_delay.ToNanoseconds() // _SECOND))
    return None
