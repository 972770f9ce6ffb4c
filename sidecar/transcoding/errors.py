"""Errors between an HTTP request and its gRPC call.

    SchemaError                 rules that cannot be served; raised while building
    ResponseError               the service's fault: its response cannot be sent
    ClientDisconnectedError     there is no client left to respond to
    DeadlinePassedError         the client's deadline passed before it had sent its request
    InvalidValueError           a value that its field cannot hold; becomes a Violation
    +-- UnknownNameError        a name that no value of its enum has
    RequestError                the client's fault; has a status and perhaps headers
    +-- PathNotFoundError           404
    +-- MethodNotAllowedError       405  Allow
    +-- NotAcceptableError          406
    +-- ContentTooLargeError        413  Connection: close
    +-- MessageTooLargeError        413
    +-- UnsupportedMediaTypeError   415  Accept, Accept-Encoding
    +-- MalformedRequestError       400
    +-- MetadataTooLargeError       431
    +-- NotServedError              501

No error text quotes a value that a client sent.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One violation in a request.

    `pointer` is the JSON Pointer (RFC 6901) to the part of the body, `parameter` the name of
    the query parameter. A violation elsewhere has neither.
    """

    detail: str
    pointer: str | None = None
    parameter: str | None = None


class Violations(list[Violation]):
    """Collects all violations of a request, to report them at once.

    Raises MalformedRequestError with the violations so far when the list gets too long to be of
    use: a body full of violations would take memory and time.
    """

    def append(self, violation: Violation) -> None:
        """Add one violation. Raises MalformedRequestError at the limit."""
        super().append(violation)
        if len(self) == _MAX_VIOLATIONS:
            raise MalformedRequestError.of(self)

    def extend(self, violations: Iterable[Violation]) -> None:
        """Add several violations. Raises MalformedRequestError at the limit."""
        for violation in violations:
            self.append(violation)


_MAX_VIOLATIONS = 100


class SchemaError(Exception):
    """Services whose rules cannot be served. `violations` has every reason."""

    def __init__(self, violations: Sequence[str]) -> None:
        super().__init__("\n".join(violations))
        self.violations = tuple(violations)


class SchemaViolations:
    """Collects all violations of a schema, to report them at once."""

    def __init__(self) -> None:
        self._violations: list[str] = []

    def __len__(self) -> int:
        return len(self._violations)

    def __iter__(self) -> Iterator[str]:
        return iter(self._violations)

    def add(self, rule: str, violation: object) -> None:
        """Add a violation of `rule`."""
        self._violations.append(f"{rule}: {violation}")

    def attempt(
        self, rule: str, read: Callable[_Args, _Result], *args: _Args.args, **kwargs: _Args.kwargs
    ) -> _Result | None:
        """Return what `read` returns. If it raises ValueError, add a violation and return None."""
        try:
            return read(*args, **kwargs)
        except ValueError as error:
            self.add(rule, error)
            return None

    def check(self) -> None:
        """Raise SchemaError if there are any violations."""
        if self._violations:
            raise SchemaError(self._violations)


class ResponseError(Exception):
    """A response that HTTP or JSON cannot hold. The text says why."""


class InvalidValueError(ValueError):
    """A value that its field cannot hold. The text continues a sentence: "must be a string"."""


class UnknownNameError(InvalidValueError):
    """A name that no value of an enum has. A newer schema may have it."""


class ClientDisconnectedError(Exception):
    """The client disconnected before it had a response."""


class DeadlinePassedError(Exception):
    """The deadline that the client set passed while its request was still being read."""


class RequestError(Exception):
    """A request that cannot be made into a call.

    `status` is the HTTP status of the response, `detail` its text. `headers` are header fields
    that the response must have, `violations` the reasons.
    """

    status: int

    def __init__(
        self,
        detail: str,
        *,
        violations: Iterable[Violation] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.violations = tuple(violations)
        self.headers = dict(headers or {})


class PathNotFoundError(RequestError):
    """No template matches the path (RFC 9110 section 15.5.5)."""

    status = 404

    def __init__(self) -> None:
        super().__init__("There is nothing at this path; check it, including any slash at its end.")


class MethodNotAllowedError(RequestError):
    """A template matches, but under other methods (RFC 9110 section 15.5.6).

    `allow` is the value of the Allow field. `template` is the text of the template; of several
    that match, that of the one which is tried first.
    """

    status = 405

    def __init__(self, allow: str, *, template: str) -> None:
        super().__init__(f"Use one of the methods {allow}.", headers={"Allow": allow})
        self.template = template


class NotAcceptableError(RequestError):
    """The client accepts no representation of the response (RFC 9110 section 15.5.7)."""

    status = 406

    def __init__(self, offered: str) -> None:
        super().__init__(f"Accept {offered}; there is no other media type.")


class ContentTooLargeError(RequestError):
    """The body is larger than `limit` bytes (RFC 9110 section 15.5.14).

    `is_last`: the connection can carry no other request (HTTP/1).
    """

    status = 413

    def __init__(self, limit: int, *, is_last: bool) -> None:
        super().__init__(
            f"The body must not be larger than {limit} bytes.",
            # The rest of the body is not read, so nothing can follow it on a connection without
            # streams.
            headers={"Connection": "close"} if is_last else {},
        )


class MessageTooLargeError(RequestError):
    """The message of the request is larger than the channel or the server accepts."""

    status = 413

    def __init__(self) -> None:
        super().__init__("The request is larger than the service accepts.")


class MetadataTooLargeError(RequestError):
    """The header fields that became metadata are larger than the server accepts (RFC 6585)."""

    status = 431

    def __init__(self) -> None:
        super().__init__("The header fields are larger than the service accepts.")


class UnsupportedMediaTypeError(RequestError):
    """The media type, charset or coding of the body has no reader (RFC 9110 section 15.5.16)."""

    status = 415


class NotServedError(RequestError):
    """The rule is that of a method that HTTP cannot serve here (RFC 9110 section 15.6.2)."""

    status = 501

    def __init__(self, *, takes_stream: bool) -> None:
        reason = "takes a stream of requests" if takes_stream else "is not served over HTTP"
        super().__init__(f"This method {reason}. Call it by gRPC.")


class MalformedRequestError(RequestError):
    """The request is of the right kind but cannot be understood (RFC 9110 section 15.5.1)."""

    status = 400

    @classmethod
    def of(cls, violations: Sequence[Violation]) -> "MalformedRequestError":
        """Return one error for all `violations`, without duplicates; there must be at least one.

        Its detail joins the details of the first violation and of all others without a pointer.
        """
        first, *others = violations = list(dict.fromkeys(violations))
        details = [
            first.detail,
            *(violation.detail for violation in others if violation.pointer is None),
        ]
        return cls(" ".join(details), violations=violations)
