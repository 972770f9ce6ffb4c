"""HTTP rules: what is read of the options of methods, and every way in which they can be wrong."""

import subprocess
import sys
from collections.abc import Mapping

import pytest
from google.api.http_pb2 import CustomHttpPattern, HttpRule
from google.protobuf.descriptor_pb2 import MethodDescriptorProto

from sidecar.transcoding.errors import SchemaError, SchemaViolations
from sidecar.transcoding.rules import Rule, read_rules, read_unserved
from tests.sidecar_process import ROOT
from tests.transcoding.library import image, method, post, service


def rules_of(*methods: MethodDescriptorProto) -> list[Rule]:
    """Return the rules of a library of `methods`. Raises SchemaError."""
    violations = SchemaViolations()
    rules = read_rules([service(*methods)], violations)
    violations.check()
    return rules


def custom(kind: str, path: str, body: str = "") -> HttpRule:
    """Return a rule for a method of another name."""
    return HttpRule(custom=CustomHttpPattern(kind=kind, path=path), body=body)


PATTERNS: Mapping[str, tuple[HttpRule, str]] = {
    "get": (HttpRule(get="/a"), "GET"),
    "put": (HttpRule(put="/a"), "PUT"),
    "post": (HttpRule(post="/a"), "POST"),
    "delete": (HttpRule(delete="/a"), "DELETE"),
    "patch": (HttpRule(patch="/a"), "PATCH"),
    "custom": (custom("Brew", "/a"), "Brew"),
    "any": (custom("*", "/a"), "*"),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns(name: str) -> None:
    """Each pattern stands for one HTTP method, and a custom one for that of its own name."""
    told, http_method = PATTERNS[name]
    (rule,) = rules_of(method("Open", told))
    assert (rule.http_method, rule.template.text) == (http_method, "/a")
    assert rule.method.full_name == "library.v1.Library.Open"
    assert (rule.variables, rule.body, rule.response_body) == ((), None, ())


PARTS: Mapping[str, tuple[HttpRule, tuple[str, ...] | None, tuple[str, ...]]] = {
    "whole": (HttpRule(post="/a", body="*"), (), ()),
    "none": (HttpRule(get="/a"), None, ()),
    "scalar": (HttpRule(post="/a", body="title", response_body="title"), ("title",), ("title",)),
    "message": (HttpRule(post="/a", body="shelf", response_body="shelf"), ("shelf",), ("shelf",)),
    "list": (HttpRule(post="/a", body="tags", response_body="shelves"), ("tags",), ("shelves",)),
    "map": (
        HttpRule(post="/a", body="by_name", response_body="by_name"),
        ("by_name",),
        ("by_name",),
    ),
}


@pytest.mark.parametrize("name", PARTS)
def test_bodies(name: str) -> None:
    """A body is the message, one field of any type, or none; that of the answer likewise."""
    told, body, response_body = PARTS[name]
    (rule,) = rules_of(method("Open", told, takes="Book", gives="Book"))
    named = None if rule.body is None else tuple(field.name for field in rule.body)
    assert (named, tuple(field.name for field in rule.response_body)) == (body, response_body)


def test_variables() -> None:
    """The fields of a template are resolved, in its order, well-known types among them."""
    paths = "{shelf.name=a/*}/{title}/{known.a_timestamp}/{known.an_int64}/{scalars.a_mood}"
    (rule,) = rules_of(method("Open", HttpRule(get=f"/{paths}"), takes="Book"))
    assert [".".join(field.name for field in path) for path in rule.variables] == [
        "shelf.name",
        "title",
        "known.a_timestamp",
        "known.an_int64",
        "scalars.a_mood",
    ]


def test_variable_within_the_body() -> None:
    """The path may give a part of the field that is the body, as updates have it."""
    told = HttpRule(patch="/v1/{shelf.name}", body="shelf")
    (rule,) = rules_of(method("Open", told, takes="Book"))
    assert rule.body == rule.variables[0][:1]


def test_additional_bindings() -> None:
    """Each binding is a rule of its own, which inherits nothing."""
    told = HttpRule(
        post="/a",
        body="*",
        response_body="name",
        additional_bindings=[HttpRule(get="/b"), custom("LINK", "/c", body="theme")],
    )
    first, second, third = rules_of(method("Open", told))
    assert (first.http_method, first.body, len(first.response_body)) == ("POST", (), 1)
    assert (second.http_method, second.body, second.response_body) == ("GET", None, ())
    assert third.http_method == "LINK"
    assert third.body
    assert third.body[0].name == "theme"


def test_methods_without_a_rule() -> None:
    """What has no rule is not served, whatever it takes, and streams among them raise nothing."""
    assert rules_of(method("Open"), method("Feed", streams="client")) == []


def test_streaming_methods(caplog: pytest.LogCaptureFixture) -> None:
    """Methods with a stream of requests are left out, also wrong ones; one warning names them."""
    methods = [
        method("Feed", post("/v1/{a"), streams="client"),
        method("Open", post("/a")),
        method("Watch", post("/b"), streams="server"),
        method("Talk", post("/c"), streams="client server"),
    ]
    assert [rule.method.name for rule in rules_of(*methods)] == ["Open", "Watch"]
    (record,) = caplog.records
    told = "library.v1.Library.Feed, library.v1.Library.Talk"
    expected = ("WARNING", f"methods with a stream of requests are not served over HTTP: {told}")
    assert (record.levelname, record.getMessage()) == expected
    # Their rules are known all the same, but for one whose path is wrong.
    assert [rule.template.text for rule in read_unserved([service(*methods)], ())] == ["/c"]
    assert [record.getMessage() for record in caplog.records[1:]] == [
        (
            "the route of an unserved method cannot be kept: library.v1.Library.Feed:"
            " post '/v1/{a': column 7: a variable ends with '}' and cannot contain another one"
        )
    ]


# Run by itself, for here the extension is known from the beginning.
LATE = """
import sys
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

pool = DescriptorPool()
for file in FileDescriptorSet.FromString(sys.stdin.buffer.read()).file:
    pool.AddSerializedFile(file.SerializeToString())
service = pool.FindServiceByName("library.v1.Library")
method = service.methods[0]
assert not method.GetOptions().ListFields()

from sidecar.transcoding.errors import SchemaViolations
from sidecar.transcoding.rules import read_rules

print(*(rule.template.text for rule in read_rules([service], SchemaViolations())))
"""


def test_options_that_were_read_before_the_extension_was_known() -> None:
    """A rule is seen also where the options of its method were read before anyone knew rules."""
    schema = image(method("Open", post("/a"))).SerializeToString()
    program = (sys.executable, "-c", LATE)
    ended = subprocess.run(program, input=schema, capture_output=True, check=False, cwd=ROOT)
    assert ended.stdout == b"/a\n", ended.stderr


# What is wrong with one rule of a method that takes and gives a Book.
NO_METHOD = "its kind must be an HTTP method, or '*' for all"
REPEATED = "is repeated, and a path gives one value"
ONE_VALUE = "has no fields that a path can set"
ONEOF = "exclude each other in a oneof"
TWO_OF_A_ONEOF = f"library.v1.Choice.by_title and library.v1.Choice.by_code {ONEOF}"
ONE_FURTHER_DOWN = f"library.v1.Choice.by_shelf and library.v1.Choice.by_code {ONEOF}"
WRONG: Mapping[str, tuple[HttpRule, str]] = {
    "no pattern": (
        HttpRule(body="*"),
        "rule: it has none of get, put, post, delete, patch and custom",
    ),
    "no kind": (
        custom("", "/a"),
        f"custom '' '/a': {NO_METHOD}",
    ),
    "odd kind": (
        custom("A B", "/a"),
        f"custom 'A B' '/a': {NO_METHOD}",
    ),
    "template": (
        HttpRule(get="/v1/{name"),
        "get '/v1/{name': column 10: a variable ends with '}'",
    ),
    "template of a custom rule": (
        custom("LINK", "/a/"),
        "custom 'LINK' '/a/': column 4: a segment must not be empty",
    ),
    "nested bindings": (
        HttpRule(
            get="/a",
            additional_bindings=[HttpRule(get="/b", additional_bindings=[HttpRule(get="/c")])],
        ),
        "additional_bindings[0].get '/b': additional bindings cannot be nested",
    ),
    "template of a binding": (
        HttpRule(get="/a", additional_bindings=[HttpRule(get="/b"), HttpRule(put="")]),
        "additional_bindings[1].put '': column 1: a template starts with '/'",
    ),
    "unknown field": (
        HttpRule(get="/v1/{nome}"),
        "get '/v1/{nome}': column 6: library.v1.Book has no field 'nome'",
    ),
    "unknown field further down": (
        HttpRule(get="/v1/{shelf.nome}"),
        "get '/v1/{shelf.nome}': column 6: library.v1.Shelf has no field 'nome'",
    ),
    "JSON name": (
        HttpRule(get="/{shelf.shelfCode}"),
        "get '/{shelf.shelfCode}': column 3: library.v1.Shelf has no field 'shelfCode'",
    ),
    "through a scalar": (
        HttpRule(get="/{title.x}"),
        f"get '/{{title.x}}': column 3: library.v1.Book.title {ONE_VALUE}",
    ),
    "through a well-known type": (
        HttpRule(get="/{printed.seconds}"),
        f"get '/{{printed.seconds}}': column 3: library.v1.Book.printed {ONE_VALUE}",
    ),
    "list": (
        HttpRule(get="/{tags}"),
        "get '/{tags}': column 3: library.v1.Book.tags is repeated, and a path gives one value",
    ),
    "map": (
        HttpRule(get="/{by_name}"),
        "get '/{by_name}': column 3: library.v1.Book.by_name is a map, and a path gives one value",
    ),
    "through a list": (
        HttpRule(get="/{shelves.name}"),
        f"get '/{{shelves.name}}': column 3: library.v1.Book.shelves {REPEATED}",
    ),
    "message": (
        HttpRule(get="/{shelf}"),
        "get '/{shelf}': column 3: library.v1.Book.shelf is a message; name a field of it",
    ),
    "Any": (
        HttpRule(get="/{known.an_any}"),
        "get '/{known.an_any}': column 3: library.v1.Known.an_any is a message; name a field of it",
    ),
    "body": (HttpRule(post="/a", body="x"), "post '/a': body: library.v1.Book has no field 'x'"),
    "body further down": (
        HttpRule(post="/a", body="shelf.name"),
        "post '/a': body: library.v1.Book has no field 'shelf.name'",
    ),
    "response body": (
        HttpRule(get="/a", response_body="*"),
        "get '/a': response_body: library.v1.Book has no field '*'",
    ),
    "path and body": (
        HttpRule(post="/{title}", body="title"),
        "post '/{title}': column 3: the body already sets all of library.v1.Book.title",
    ),
    "two of a oneof": (
        HttpRule(get="/{choice.by_title}/{choice.by_code}"),
        f"get '/{{choice.by_title}}/{{choice.by_code}}': column 21: {TWO_OF_A_ONEOF}",
    ),
    "two of a oneof, one further down": (
        HttpRule(get="/{choice.by_shelf.name}/{choice.by_code}"),
        f"get '/{{choice.by_shelf.name}}/{{choice.by_code}}': column 26: {ONE_FURTHER_DOWN}",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong(name: str) -> None:
    """What is wrong is told with the method, the rule, and the column where there is one."""
    told, expected = WRONG[name]
    with pytest.raises(SchemaError) as raised:
        rules_of(method("Open", told, takes="Book", gives="Book"))
    (violation,) = raised.value.violations
    assert violation.startswith(f"library.v1.Library.Open: {expected}")


def test_path_and_body_of_a_oneof() -> None:
    """Path and body cannot give two fields of which one only can be."""
    with pytest.raises(SchemaError, match=ONEOF):
        rules_of(method("Open", HttpRule(post="/{by_title}", body="by_shelf"), takes="Choice"))


def test_two_fields_of_one_message_of_a_oneof() -> None:
    """Two variables may lead into the same field of a oneof."""
    told = HttpRule(get="/{by_shelf.name}/{by_shelf.theme}")
    (rule,) = rules_of(method("Open", told, takes="Choice"))
    assert len(rule.variables) == 2


def test_two_fields_of_two_messages_with_a_oneof() -> None:
    """Two messages of one type may have each another field of the same oneof."""
    told = HttpRule(get="/{one.by_title}/{other.by_code}")
    (rule,) = rules_of(method("Open", told, takes="Pair"))
    assert len(rule.variables) == 2


def test_all_faults_at_once() -> None:
    """Every wrong rule of every method is told, so that one start is enough."""
    with pytest.raises(SchemaError) as raised:
        rules_of(
            method("Open", HttpRule(get="/{x}", additional_bindings=[HttpRule(get="")])),
            method("Shut", post("/a")),
            method("Lend", post("/a/")),
        )
    assert [violation.split(":")[0] for violation in raised.value.violations] == [
        "library.v1.Library.Open",
        "library.v1.Library.Open",
        "library.v1.Library.Lend",
    ]
