"""The renderer of errors that is used without `render_error`: problem documents (RFC 9457)."""

from collections.abc import Sequence
from contextlib import suppress

from google.protobuf import descriptor_pool
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.rpc import code_pb2
from google.rpc.error_details_pb2 import DebugInfo, RetryInfo
from google.rpc.status_pb2 import Status
from starlette.requests import Request
from starlette.responses import Response

from sidecar.transcoding import media_type
from sidecar.transcoding.errors import RequestError, Violation
from sidecar.transcoding.protojson import writer as json_writer
from sidecar.transcoding.protojson.json_format import JsonFormat
from sidecar.transcoding.protojson.writer import JsonWriter
from sidecar.transcoding.status import HTTP_STATUS, phrase
from sidecar.transcoding.strict_json import JsonTree

_NOT_FOR_CLIENTS = frozenset(
    {code_pb2.UNKNOWN, code_pb2.INTERNAL, code_pb2.DATA_LOSS, code_pb2.UNAVAILABLE}
)
# As in a status of google.rpc: without fields that are not set.
_DETAILS = JsonFormat(omit_defaults=True)
_SECOND = 1_000_000_000  # in nanoseconds


def render(
    request: Request, error: RequestError | Status, *, pools: Sequence[DescriptorPool] = ()
) -> Response:
    """Return the problem document of a refused request or of a failed call.

    There is no `type`, which stands for about:blank: the problem is what its HTTP status says
    (RFC 9457 section 4.2.1). For a request, `errors` holds its violations. For a call, `code`
    is the name of the status code, `detail` the message, and `details` the details whose types
    are in one of `pools` or the default pool.

    The message of UNKNOWN, INTERNAL, DATA_LOSS and UNAVAILABLE is left out, because gRPC puts
    the text of exceptions and the addresses of hosts there. DebugInfo is left out as well.

    401 demands a WWW-Authenticate field (RFC 9110 section 15.5.2). The scheme is not known
    here, so none is added: a service that answers UNAUTHENTICATED needs its own renderer, or
    sends the field as metadata that is passed on.
    """
    if isinstance(error, Status):
        status, members = HTTP_STATUS.get(error.code, 500), _write_status(error, pools)
        headers = _retry_after(error)
    else:
        status, members, headers = error.status, _write_request_error(error), error.headers
    title = phrase(status)
    present = {name: member for name, member in members.items() if member}
    return Response(
        json_writer.encode({"title": title, "status": status, **present}),
        status_code=status,
        media_type=media_type.choose_problem(request.headers.getlist("accept")),
        headers={"Vary": "Accept", **headers},
    )


def _write_request_error(error: RequestError) -> dict[str, JsonTree]:
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


def _write_status(status: Status, pools: Sequence[DescriptorPool]) -> dict[str, JsonTree]:
    # gRPC reads an unknown code as UNKNOWN.
    code = status.code if status.code in HTTP_STATUS else code_pb2.UNKNOWN
    details = [_write_detail(packed, pools) for packed in status.details]
    return {
        "code": code_pb2.Code.Name(code),
        "detail": "" if code in _NOT_FOR_CLIENTS else status.message,
        "details": [detail for detail in details if detail],
    }


def _write_detail(packed: Packed, pools: Sequence[DescriptorPool]) -> dict[str, JsonTree]:
    """Return the JSON of a packed detail with its @type, or {} if it must be left out."""
    if packed.TypeName() == DebugInfo.DESCRIPTOR.full_name:
        return {}
    for pool in (*pools, descriptor_pool.Default()):
        # In turn: an unknown type, a malformed message or a value that JSON does not have; text
        # that is not UTF-8; Any nested in Any without end.
        with suppress(ValueError, TypeError, RecursionError):
            detail = JsonWriter(_DETAILS).packed(pool)(packed)
            json_writer.encode({"details": [detail]})  # as deep as in the document
            return detail
    return {}


def _retry_after(status: Status) -> dict[str, str]:
    """Return a Retry-After field with the longest RetryInfo (RFC 9110 section 10.2.3), if any."""
    delays = [delay for delay in map(_delay, status.details) if delay is not None]
    return {"Retry-After": str(max(delays))} if delays else {}


def _delay(packed: Packed) -> int | None:
    """Return the delay of a RetryInfo in seconds, rounded up so that the client is not early."""
    retry = RetryInfo()
    with suppress(DecodeError):
        if packed.Unpack(retry) and retry.HasField("retry_delay"):
            return max(0, -(-retry.retry_delay.ToNanoseconds() // _SECOND))
    return None
