"""Errors of requests: the status and the headers that each must be answered with."""

from collections.abc import Mapping

import pytest

from sidecar.transcoding.errors import (
    ContentTooLargeError,
    MalformedRequestError,
    MessageTooLargeError,
    MetadataTooLargeError,
    MethodNotAllowedError,
    NotAcceptableError,
    NotServedError,
    PathNotFoundError,
    RequestError,
    SchemaError,
    SchemaViolations,
    UnsupportedMediaTypeError,
    Violation,
    Violations,
)

ONE, TWO = Violation(detail="One.", pointer="/a"), Violation(detail="Two.", pointer="/b")
OTHER, LAST = Violation(detail="Other."), Violation(detail="Last.", parameter="last")
ERRORS: Mapping[str, tuple[RequestError, int, str, Mapping[str, str]]] = {
    "path": (
        PathNotFoundError(),
        404,
        "There is nothing at this path; check it, including any slash at its end.",
        {},
    ),
    "method": (
        MethodNotAllowedError("POST, OPTIONS", template="/a"),
        405,
        "Use one of the methods POST, OPTIONS.",
        {"Allow": "POST, OPTIONS"},
    ),
    "size": (
        ContentTooLargeError(16384, is_last=True),
        413,
        "The body must not be larger than 16384 bytes.",
        {"Connection": "close"},
    ),
    # RFC 9113 section 8.2.2: there is no such field in HTTP/2.
    "size, in a stream": (
        ContentTooLargeError(16384, is_last=False),
        413,
        "The body must not be larger than 16384 bytes.",
        {},
    ),
    "media type": (
        UnsupportedMediaTypeError("Send JSON.", headers={"Accept": "application/json"}),
        415,
        "Send JSON.",
        {"Accept": "application/json"},
    ),
    "representation": (
        NotAcceptableError("application/json"),
        406,
        "Accept application/json; there is no other media type.",
        {},
    ),
    "stream of requests": (
        NotServedError(takes_stream=True),
        501,
        "This method takes a stream of requests. Call it by gRPC.",
        {},
    ),
    "method that is left out": (
        NotServedError(takes_stream=False),
        501,
        "This method is not served over HTTP. Call it by gRPC.",
        {},
    ),
    "metadata": (
        MetadataTooLargeError(),
        431,
        "The header fields are larger than the service accepts.",
        {},
    ),
    "message": (MessageTooLargeError(), 413, "The request is larger than the service accepts.", {}),
    "one fault": (MalformedRequestError.of([ONE]), 400, "One.", {}),
    "faults": (MalformedRequestError.of([ONE, TWO]), 400, "One.", {}),
    # What no pointer leads to is told in the text.
    "other faults": (
        MalformedRequestError.of([TWO, OTHER, ONE, LAST]),
        400,
        "Two. Other. Last.",
        {},
    ),
}


@pytest.mark.parametrize(("error", "status", "detail", "headers"), ERRORS.values(), ids=ERRORS)
def test_error(error: RequestError, status: int, detail: str, headers: Mapping[str, str]) -> None:
    """Every error has the status of its kind, a text, and the headers that RFC 9110 asks for."""
    assert (error.status, error.detail, str(error), error.headers) == (
        status,
        detail,
        detail,
        headers,
    )


def test_faults_are_kept() -> None:
    """A malformed request tells all that is wrong with it, in order."""
    assert MalformedRequestError.of([ONE, OTHER]).violations == (ONE, OTHER)


def test_a_fault_is_told_once() -> None:
    """What is wrong twice in the same way is told once."""
    error = MalformedRequestError.of([OTHER, ONE, OTHER])
    assert (error.detail, error.violations) == ("Other.", (OTHER, ONE))


def test_faults_come_to_an_end() -> None:
    """The hundredth fault ends the search, and all hundred are told."""
    violations = Violations()
    some = [Violation(detail=f"{number}.", pointer="/a") for number in range(200)]
    violations.extend(some[:99])
    with pytest.raises(MalformedRequestError) as raised:
        violations.append(some[99])
    assert raised.value.violations == tuple(some[:100])


def test_errors_without_faults() -> None:
    """An error of the request as a whole has none."""
    assert PathNotFoundError().violations == ()


def test_schema_error() -> None:
    """What is wrong with a schema is told one line for each fault."""
    error = SchemaError(["a: wrong", "b: wrong"])
    assert (str(error), error.violations) == ("a: wrong\nb: wrong", ("a: wrong", "b: wrong"))


def refuse(rule: str) -> str:
    """Return the rule if there is nothing wrong with it."""
    if rule == "library.B":
        return rule
    raise ValueError("wrong")


def test_schema_faults_are_collected() -> None:
    """All faults are told at once, each with its rule, and what follows a fault is still done."""
    violations = SchemaViolations()
    made = [
        violations.attempt(rule, refuse, rule) for rule in ("library.A", "library.B", "library.C")
    ]
    violations.add("library.D", "strange")
    assert len(violations) == 3
    with pytest.raises(SchemaError) as raised:
        violations.check()
    told = ("library.A: wrong", "library.C: wrong", "library.D: strange")
    assert raised.value.violations == told
    assert made == [None, "library.B", None]


def test_schema_without_faults() -> None:
    """Without faults there is nothing to tell, and a bug of ours is not taken for one."""
    violations = SchemaViolations()
    assert violations.attempt("library.A", int, "1") == 1
    with pytest.raises(KeyError):
        violations.attempt("library.B", dict[str, int]().__getitem__, "bug")
    violations.check()
