"""HTTP rules: which methods are served, and why the others cannot be."""

from collections.abc import Mapping

import pytest
from google.api.http_pb2 import CustomHttpPattern, HttpRule
from google.protobuf.descriptor_pb2 import MethodDescriptorProto

from sidecar.transcoding.errors import SchemaError, SchemaFaults
from sidecar.transcoding.rules import Rule, read_rules
from sidecar.transcoding.template import Template
from tests.transcoding.library import method, post, service


def read(*methods: MethodDescriptorProto) -> tuple[tuple[str, str, str], ...]:
    """Return the method, HTTP method and template of each rule."""
    rules = read_rules([service(*methods)], SchemaFaults())
    return tuple((rule.method.name, rule.http_method, rule.template.text) for rule in rules)


def faults_of(*methods: MethodDescriptorProto) -> tuple[str, ...]:
    """Return every fault of these methods."""
    faults = SchemaFaults()
    read_rules([service(*methods)], faults)
    with pytest.raises(SchemaError) as raised:
        faults.check()
    return raised.value.faults


PATTERNS: Mapping[str, HttpRule] = {
    "GET": HttpRule(get="/v1/shelves", body="*"),
    "PUT": HttpRule(put="/v1/shelves", body="*"),
    "POST": HttpRule(post="/v1/shelves", body="*"),
    "DELETE": HttpRule(delete="/v1/shelves", body="*"),
    "PATCH": HttpRule(patch="/v1/shelves", body="*"),
}


@pytest.mark.parametrize(("http_method", "rule"), PATTERNS.items(), ids=PATTERNS)
def test_pattern(http_method: str, rule: HttpRule) -> None:
    """Each pattern that HTTP has a method for is served under that method."""
    assert read(method("Open", rule)) == (("Open", http_method, "/v1/shelves"),)


def test_rule_in_full() -> None:
    """A rule knows its method and its template; a selector, which has no meaning here, is lost."""
    library = service(method("Open", HttpRule(selector="x", post="/v1/a", body="*")))
    assert read_rules([library], SchemaFaults()) == [
        Rule(
            method=library.methods_by_name["Open"],
            http_method="POST",
            template=Template(text="/v1/a", segments=("v1", "a")),
        ),
    ]


def test_methods_without_a_rule() -> None:
    """A method without a rule is not served over HTTP, whatever it is like."""
    assert read(
        method("Open"), method("Watch", streams="client server"), method("Lend", post("/v1/a"))
    ) == (("Lend", "POST", "/v1/a"),)


def test_no_services() -> None:
    """No services have no rules."""
    assert read_rules([], SchemaFaults()) == []


def test_several_services() -> None:
    """The rules of all services are read, in their order."""
    services = [service(method("Open", post("/v1/a"))), service(method("Lend", post("/v1/b")))]
    rules = read_rules(services, SchemaFaults())
    assert [rule.template.text for rule in rules] == ["/v1/a", "/v1/b"]


PATTERN = "only the patterns get, put, post, delete and patch are supported yet"
BODY = 'only rules with body "*" and nothing besides are supported yet'
STREAMING = "streaming methods are not supported"
WRONG: Mapping[str, tuple[MethodDescriptorProto, str]] = {
    "no pattern": (method("Open", HttpRule(body="*")), PATTERN),
    "empty rule": (method("Open", HttpRule()), PATTERN),
    "custom": (
        method("Open", HttpRule(custom=CustomHttpPattern(kind="LIST", path="/v1/a"), body="*")),
        PATTERN,
    ),
    "any method": (
        method("Open", HttpRule(custom=CustomHttpPattern(kind="*", path="/v1/a"), body="*")),
        PATTERN,
    ),
    "no body": (method("Open", HttpRule(get="/v1/a")), BODY),
    "body of a field": (method("Open", HttpRule(post="/v1/a", body="name")), BODY),
    "response of a field": (
        method("Open", HttpRule(post="/v1/a", body="*", response_body="name")),
        BODY,
    ),
    "more bindings": (
        method("Open", HttpRule(post="/v1/a", body="*", additional_bindings=[post("/v1/b")])),
        BODY,
    ),
    "requests stream": (method("Open", post("/v1/a"), streams="client"), STREAMING),
    "responses stream": (method("Open", post("/v1/a"), streams="server"), STREAMING),
    "both stream": (method("Open", post("/v1/a"), streams="client server"), STREAMING),
    "variable": (
        method("Open", post("/v1/{name=shelves/*}")),
        "post: '/v1/{name=shelves/*}': column 5: variables are not supported yet",
    ),
    "wildcard": (
        method("Open", HttpRule(put="/v1/**", body="*")),
        "put: '/v1/**': column 5: wildcards are not supported yet",
    ),
    "verb": (
        method("Open", post("/v1/shelves:merge")),
        "post: '/v1/shelves:merge': column 12: verbs are not supported yet",
    ),
    "empty path": (method("Open", post("")), "post: '': column 1: a template starts with '/'"),
    "relative path": (
        method("Open", post("v1")),
        "post: 'v1': column 1: a template starts with '/'",
    ),
}


@pytest.mark.parametrize(("wrong", "fault"), WRONG.values(), ids=WRONG)
def test_wrong(wrong: MethodDescriptorProto, fault: str) -> None:
    """A rule of a form that is not served is refused by name, instead of half served."""
    assert faults_of(wrong) == (f"library.v1.Library.Open: {fault}",)


def test_every_fault_at_once() -> None:
    """All rules that cannot be served are told together, and those between them are not lost."""
    assert faults_of(
        method("Open", HttpRule()),
        method("Lend", post("/v1/a")),
        method("Shut", post("/v1/*")),
        method("Watch", post("/v1/b"), streams="server"),
    ) == (
        f"library.v1.Library.Open: {PATTERN}",
        "library.v1.Library.Shut: post: '/v1/*': column 5: wildcards are not supported yet",
        f"library.v1.Library.Watch: {STREAMING}",
    )
