"""What can go wrong between an HTTP request and the gRPC call that it stands for.

    SchemaError                 the schema cannot be served; raised while building
    ResponseError                 the service's fault: its answer cannot be sent
    ClientDisconnectedError     nobody is left to answer
    DeadlinePassedError         the client's deadline passed before it had sent its request
    InvalidValueError                  a value that its field cannot take; becomes a Fault
    +-- UnknownNameError            which names no value of an enum
    RequestError                the client's fault; has a status and perhaps headers
    +-- PathNotFoundError           404
    +-- MethodNotAllowedError       405  Allow
    +-- NotAcceptableError          406
    +-- ContentTooLargeError        413  Connection: close
    +-- UnsupportedMediaTypeError   415  Accept, Accept-Encoding
    +-- MalformedRequestError       400

No text here quotes a value that a client sent.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

_Given = ParamSpec("_Given")
_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One thing that is wrong in a request.

    `pointer` is the JSON Pointer (RFC 6901) to the part of the body, `parameter`
    the name of the query parameter; what is in neither has neither.
    """

    detail: str
    pointer: str | None = None
    parameter: str | None = None


class Violations(list[Violation]):
    """Collects what is wrong with a request, so that all of it is told at once.

    Raises MalformedRequestError, of what there is, where the list gets too long
    to be of use: a body of nothing but faults would take memory and time.
    """

    def append(self, violation: Violation) -> None:
        """Add one."""
        super().append(violation)
        if len(self) == _MAX_VIOLATIONS:
            raise MalformedRequestError.of(self)

    def extend(self, violations: Iterable[Violation]) -> None:
        """Add several."""
        for violation in violations:
            self.append(violation)


_MAX_VIOLATIONS = 100


class SchemaError(Exception):
    """The services cannot be served as their rules stand. `violations` names every reason."""

    def __init__(self, violations: Sequence[str]) -> None:
        super().__init__("\n".join(violations))
        self.violations = tuple(violations)


class SchemaViolations:
    """Collects what is wrong with a schema, so that all of it is told at once."""

    def __init__(self) -> None:
        self._violations: list[str] = []

    def __len__(self) -> int:
        return len(self._violations)

    def add(self, rule: str, violation: object) -> None:
        """Add what is wrong with `rule`."""
        self._violations.append(f"{rule}: {violation}")

    def attempt(
        self, rule: str, read: Callable[_Given, _Read], *args: _Given.args, **kwargs: _Given.kwargs
    ) -> _Read | None:
        """Return what `read` returns; a ValueError of it is a fault of `rule`."""
        try:
            return read(*args, **kwargs)
        except ValueError as error:
            self.add(rule, error)
            return None

    def check(self) -> None:
        """Raise SchemaError if there are any."""
        if self._violations:
            raise SchemaError(self._violations)


class ResponseError(Exception):
    """The service answered with what HTTP or JSON does not have. The text says what that is."""


class InvalidValueError(ValueError):
    """A value that its field cannot take. The text continues a sentence: "must be a string"."""


class UnknownNameError(InvalidValueError):
    """A name that no value of an enum has: perhaps of one that a newer schema has."""


class ClientDisconnectedError(Exception):
    """The client went away before it had an answer."""


class DeadlinePassedError(Exception):
    """The deadline that the client set passed while its request was still being read."""


class RequestError(Exception):
    """A request that cannot be made into a call.

    `status` is the HTTP status of the answer, `headers` are those that it must
    have, `violations` is what is wrong.
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
    """No rule has a template that matches the path (RFC 9110 section 15.5.5)."""

    status = 404

    def __init__(self) -> None:
        super().__init__("There is nothing at this path; check it, also for a slash at its end.")


class MethodNotAllowedError(RequestError):
    """A template matches, but under other methods (RFC 9110 section 15.5.6)."""

    status = 405

    def __init__(self, allow: str) -> None:
        super().__init__(f"Use one of the methods {allow}.", headers={"Allow": allow})


class NotAcceptableError(RequestError):
    """There is no representation that the client accepts (RFC 9110 section 15.5.7)."""

    status = 406

    def __init__(self, offered: str) -> None:
        super().__init__(f"Accept {offered}; the answer is in no other media type.")


class ContentTooLargeError(RequestError):
    """The body is over the limit (RFC 9110 section 15.5.14).

    `is_last` tells that the connection can carry no other request (HTTP/1).
    """

    status = 413

    def __init__(self, limit: int, *, is_last: bool) -> None:
        super().__init__(
            f"The body must not be larger than {limit} bytes.",
            # What is left of the body is not read, so nothing can follow it where there
            # are no streams.
            headers={"Connection": "close"} if is_last else {},
        )


class UnsupportedMediaTypeError(RequestError):
    """The body is of a type, charset or coding that cannot be read (RFC 9110 section 15.5.16)."""

    status = 415


class MalformedRequestError(RequestError):
    """The request is of the right kind but cannot be understood (RFC 9110 section 15.5.1)."""

    status = 400

    @classmethod
    def of(cls, violations: Sequence[Violation]) -> "MalformedRequestError":
        """Make one error of all `violations`, of which there is at least one.

        Its detail is that of the first fault, and of all that no pointer leads to.
        """
        first, *others = violations = list(dict.fromkeys(violations))
        told = [
            first.detail,
            *(violation.detail for violation in others if violation.pointer is None),
        ]
        return cls(" ".join(told), violations=violations)
