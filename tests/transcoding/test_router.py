"""Routing: which rule serves a path and a method, and what the others are told."""

from collections.abc import Mapping

import pytest
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor_pb2 import MethodDescriptorProto

from sidecar.transcoding.errors import (
    Fault,
    MalformedRequestError,
    MethodNotAllowedError,
    PathNotFoundError,
    SchemaFaults,
)
from sidecar.transcoding.router import Router
from sidecar.transcoding.rules import read_rules
from tests.transcoding.library import method, post, service

METHODS = (
    method("Open", post("/v1/shelves")),
    method("Look", HttpRule(get="/v1/shelves", body="*")),
    method("Lend", post("/v1/shelves/lend")),
    method("Sign", post("/v1/a!b@c")),
    method("Path", post("/v1/~a")),
)


def router(*methods: MethodDescriptorProto) -> Router[str]:
    """Return a router that finds the names of methods."""
    router = Router[str]()
    for rule in read_rules([service(*methods)], SchemaFaults()):
        router.add(rule, rule.method.name)
    return router


FOUND: Mapping[tuple[str, str], str] = {
    ("POST", "/v1/shelves"): "Open",
    ("GET", "/v1/shelves"): "Look",
    ("HEAD", "/v1/shelves"): "Look",
    ("POST", "/v1/shelves/lend"): "Lend",
    ("POST", "/v1/a!b@c"): "Sign",
    # RFC 3986 section 6.2.2: an escape of what needs none is the same.
    ("POST", "/v1/shel%76es"): "Open",
    ("POST", "/%76%31/shelves"): "Open",
    ("POST", "/v1/a%21b%40c"): "Sign",
    ("POST", "/v1/%7Ea"): "Path",
    ("POST", "/v1/%7ea"): "Path",
}
MISSED = (
    "",
    "*",
    "v1/shelves",
    "xv1/shelves",
    "/",
    "//",
    "/v1",
    "/v1/",
    "/v1/shelves/",
    "//v1/shelves",
    "/v1//shelves",
    "/V1/shelves",
    "/v1/Shelves",
    "/v1/shelves/lend/x",
    "/v1/./shelves",
    "/v1/x/../shelves",
    "/v1%2Fshelves",
    "/v1/shelves%2F",
    "/v1/shelves%2Flend",
    "/v1/shelves%00",
    "/v1/shelves%3F",
    "/v1/shelves;a=b",
    "/v1/shelves+",
    "/v1/shelves%20",
    "/v1/%2573helves",
    "/v1/shelves%C3%A9",
    "https://api.example.test/v1/shelves",
)
MALFORMED = (
    "/v1/%",
    "/v1/%zz",
    "/v1/shelves%4",
    "/%/v1",
    "/v1/%FF",
    "/v1/%C3",
    "/v1/%C0%AF",
    "/v1/%ED%A0%80",
)
FAULT = Fault(detail="The path must hold well-formed percent escapes of UTF-8 only.")


@pytest.mark.parametrize(("sent", "found"), FOUND.items(), ids=str)
def test_find(sent: tuple[str, str], found: str) -> None:
    """A path is found by what its segments say, and a method by its name; HEAD goes with GET."""
    assert router(*METHODS).find(*sent) == found


def test_order_does_not_matter() -> None:
    """A router finds the same however it was filled."""
    turned = router(*reversed(METHODS))
    assert {sent: turned.find(*sent) for sent in FOUND} == FOUND


@pytest.mark.parametrize("path", MISSED)
def test_path_not_found(path: str) -> None:
    """Any other path is not found, also for those who only ask what is allowed there."""
    with pytest.raises(PathNotFoundError):
        router(*METHODS).find("POST", path)
    with pytest.raises(PathNotFoundError):
        router(*METHODS).allow(path)


@pytest.mark.parametrize("path", MALFORMED)
def test_malformed_path(path: str) -> None:
    """A path with a malformed escape is a fault of the request, and is not quoted."""
    with pytest.raises(MalformedRequestError) as raised:
        router(*METHODS).find("POST", path)
    assert raised.value.faults == (FAULT,)
    with pytest.raises(MalformedRequestError):
        router(*METHODS).allow(path)


@pytest.mark.parametrize(
    "name", ["PUT", "DELETE", "TRACE", "CONNECT", "post", "", "*", "P\u00d6ST"]
)
def test_method_not_allowed(name: str) -> None:
    """Under another method the path is there, and the answer tells those that it has."""
    with pytest.raises(MethodNotAllowedError) as raised:
        router(*METHODS).find(name, "/v1/shelves")
    assert raised.value.headers == {"Allow": "POST, GET, HEAD, OPTIONS"}


@pytest.mark.parametrize("name", ["GET", "HEAD"])
def test_head_needs_get(name: str) -> None:
    """HEAD is allowed where GET is, and nowhere else."""
    with pytest.raises(MethodNotAllowedError) as raised:
        router(*METHODS).find(name, "/v1/shelves/lend")
    assert raised.value.headers == {"Allow": "POST, OPTIONS"}


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/v1/shelves", "POST, GET, HEAD, OPTIONS"),
        ("/v1/shelves/lend", "POST, OPTIONS"),
        ("/v1/%61!b@c", "POST, OPTIONS"),
    ],
)
def test_allow(path: str, allow: str) -> None:
    """What is allowed at a path can be asked for."""
    assert router(*METHODS).allow(path) == allow


def test_a_duplicate_is_refused() -> None:
    """Of two rules for one request one would be dead: the second is refused."""
    with pytest.raises(ValueError, match=r"^POST /v1/a is served by another rule$"):
        router(
            method("Open", post("/v1/a")),
            method("Look", HttpRule(get="/v1/a", body="*")),
            method("Lend", post("/v1/a")),
        )


def test_empty_router() -> None:
    """Without rules there is no path."""
    with pytest.raises(PathNotFoundError):
        router().find("GET", "/")
