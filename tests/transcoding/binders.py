"""Rules and requests in a few characters, for the tests of what makes messages of them."""

import re

import pytest
from google.api.http_pb2 import HttpRule
from google.protobuf import json_format
from google.protobuf.message import Message

from sidecar.transcoding import strict_json
from sidecar.transcoding.binding import Binder
from sidecar.transcoding.body import Content, Form, Json
from sidecar.transcoding.body_formats import parse_form
from sidecar.transcoding.errors import MalformedRequestError, SchemaViolations, Violation
from sidecar.transcoding.parameters import ParameterReader
from sidecar.transcoding.protojson.reader import JsonReader
from sidecar.transcoding.rules import Rule, read_rules
from tests.transcoding.library import method, service


def rule_of(told: str, takes: str = "Book") -> Rule:
    """Return a rule by its template and, after a space, its body."""
    template, _, body = told.partition(" ")
    violations = SchemaViolations()
    made = service(method("Do", HttpRule(post=template, body=body), takes=takes))
    (rule,) = read_rules([made], violations)
    violations.check()
    return rule


def binder(told: str, takes: str = "Book", **ignores: bool) -> Binder:
    """Return what binds requests by such a rule."""
    return Binder(rule_of(told, takes), JsonReader(**ignores), ParameterReader(**ignores))


def content_of(body: str) -> Content:
    """Return a body as it is read: none, a form if it begins with a name, or else JSON."""
    if re.match(r"[\w.]+=", body):
        return Form(pairs=parse_form(body))
    return Json(value=strict_json.parse(body.encode())) if body else None


def bind(made: Binder, path: str, query: str = "", body: str = "") -> Message:
    """Return the message of a request; in `path` a space is between the values."""
    return made.bind(path.split(" ") if path else [], query, content_of(body))


def assert_bound(message: Message, text: str) -> None:
    """Assert that a message is what protobuf's own library reads."""
    assert message == json_format.Parse(text or "{}", type(message)())


def faults_of(made: Binder, path: str, query: str = "", body: str = "") -> list[str]:
    """Return what is wrong, each after its pointer, or after ? and its parameter, or neither."""
    with pytest.raises(MalformedRequestError) as raised:
        bind(made, path, query, body)
    return [_line(violation) for violation in raised.value.violations]


def _line(violation: Violation) -> str:
    assert violation.pointer is None or violation.parameter is None
    location = f"?{violation.parameter}" if violation.parameter else violation.pointer or ""
    return f"{location} {violation.detail}".lstrip()
