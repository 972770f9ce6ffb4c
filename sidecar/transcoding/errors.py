"""What can go wrong between an HTTP request and the gRPC call that it stands for.

    SchemaError                 the schema cannot be served; raised while building
    ClientDisconnectedError     nobody is left to answer
    DeadlinePassedError         the client's deadline passed before it had sent its request
    RequestError                the client's fault; has a status and perhaps headers
    +-- PathNotFoundError           404
    +-- MethodNotAllowedError       405  Allow
    +-- ContentTooLargeError        413  Connection: close
    +-- UnsupportedMediaTypeError   415  Accept, Accept-Encoding
    +-- MalformedRequestError       400

No text here quotes a value that a client sent.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong in a request.

    `pointer` is the JSON Pointer (RFC 6901) to the part of the body; None for
    what is not in the body.
    """

    detail: str
    pointer: str | None = None


class SchemaError(Exception):
    """The services cannot be served as their rules stand. `faults` names every reason."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


class SchemaFaults:
    """Collects what is wrong with a schema, so that all of it is told at once."""

    def __init__(self) -> None:
        self._faults: list[str] = []

    @contextmanager
    def collect(self, method: str) -> Iterator[None]:
        """Take the ValueError that is raised inside for a fault of `method`."""
        try:
            yield
        except ValueError as error:
            self._faults.append(f"{method}: {error}")

    def check(self) -> None:
        """Raise SchemaError if there are any."""
        if self._faults:
            raise SchemaError(self._faults)


class ClientDisconnectedError(Exception):
    """The client went away before it had an answer."""


class DeadlinePassedError(Exception):
    """The deadline that the client set passed while its request was still being read."""


class RequestError(Exception):
    """A request that cannot be made into a call.

    `status` is the HTTP status of the answer, `headers` are those that it must
    have, `faults` is what is wrong.
    """

    status: ClassVar[int]

    def __init__(
        self, detail: str, *, faults: Iterable[Fault] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = tuple(faults)
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


class ContentTooLargeError(RequestError):
    """The body is over the limit (RFC 9110 section 15.5.14)."""

    status = 413

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The body must not be larger than {limit} bytes.",
            # What is left of the body is not read, so nothing can follow it.
            headers={"Connection": "close"},
        )


class UnsupportedMediaTypeError(RequestError):
    """The body is of a type, charset or coding that cannot be read (RFC 9110 section 15.5.16)."""

    status = 415


class MalformedRequestError(RequestError):
    """The request is of the right kind but cannot be understood (RFC 9110 section 15.5.1)."""

    status = 400

    @classmethod
    def of(cls, faults: Sequence[Fault]) -> "MalformedRequestError":
        """Make one error of all `faults`, of which there is at least one."""
        return cls(faults[0].detail, faults=faults)
