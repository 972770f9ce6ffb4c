"""Routing: which rule serves a path and a method, and what the others are told."""

from collections.abc import Callable, Iterable, Mapping
from itertools import permutations

import pytest
from google.api.http_pb2 import CustomHttpPattern, HttpRule

from sidecar.transcoding.errors import (
    MalformedRequestError,
    MethodNotAllowedError,
    PathNotFoundError,
    SchemaViolations,
    Violation,
)
from sidecar.transcoding.router import Router
from sidecar.transcoding.rules import read_rules
from tests.line_count import lines_of
from tests.transcoding.library import method, service


def rule_of(told: str) -> HttpRule:
    """Return a rule by its method and, after a space, its template."""
    name, template = told.split(" ")
    return HttpRule(custom=CustomHttpPattern(kind=name, path=template))


def router(*rules: str) -> Router[str]:
    """Return a router that finds rules, which are given as `rule_of` takes them."""
    made = Router[str]()
    methods = (method(f"Do{number}", rule_of(told)) for number, told in enumerate(rules))
    violations = SchemaViolations()
    for rule in read_rules([service(*methods)], violations):
        made.add(rule, f"{rule.http_method} {rule.template.text}")
    violations.check()
    return made


def found(made: Router[str], sent: str) -> str:
    """Return what serves a request, and behind it the values of its path if it has any."""
    name, _, path = sent.partition(" ")
    match = made.find(name, path)
    return " ".join((match.target, *match.variables))


SHELVES = router(
    "POST /v1/shelves",
    "GET /v1/shelves",
    "POST /v1/shelves/lend",
    "POST /v1/a!b@c",
    "POST /v1/~a",
    "POST /v1/%C3%A9%2Fx",
    "GET /v1/files/{name}",
    "GET /",
)
FOUND: Mapping[str, str] = {
    "POST /v1/shelves": "POST /v1/shelves",
    "GET /v1/shelves": "GET /v1/shelves",
    "HEAD /v1/shelves": "GET /v1/shelves",
    "POST /v1/shelves/lend": "POST /v1/shelves/lend",
    "GET /": "GET /",
    # RFC 3986 section 6.2.2: an escape of what needs none is the same.
    "POST /v1/shel%76es": "POST /v1/shelves",
    "POST /%76%31/shelves": "POST /v1/shelves",
    "POST /v1/a!b@c": "POST /v1/a!b@c",
    "POST /v1/a%21b%40c": "POST /v1/a!b@c",
    "POST /v1/%7Ea": "POST /v1/~a",
    "POST /v1/%7ea": "POST /v1/~a",
    "POST /v1/%c3%a9%2fx": "POST /v1/%C3%A9%2Fx",
    "GET /v1/files/a%2Fb": "GET /v1/files/{name} a/b",
    "GET /v1/files/%2561": "GET /v1/files/{name} %61",
    "GET /v1/files/a+b": "GET /v1/files/{name} a+b",
    "GET /v1/files/.": "GET /v1/files/{name} .",
    "GET /v1/files/a:b": "GET /v1/files/{name} a:b",
    "GET /v1/files/a;b=c": "GET /v1/files/{name} a;b=c",
}


@pytest.mark.parametrize(("sent", "expected"), FOUND.items())
def test_find(sent: str, expected: str) -> None:
    """A path is split as it was sent, and then compared and read without its escapes."""
    assert found(SHELVES, sent) == expected


MISSED = (
    "",
    "*",
    "v1/shelves",
    "xv1/shelves",
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
    "/v1/shelves%3F",
    "/v1/shelves;a=b",
    "/v1/shelves+",
    "/v1/shelves%20",
    "/v1/%2573helves",
    "/v1/shelves%C3%A9",
    "/v1/files",
    "/v1/files/",
    "/v1/files//",
    "/v1/files//a",
    "https://api.example.test/v1/shelves",
)


@pytest.mark.parametrize("path", MISSED)
@pytest.mark.parametrize("name", ["POST", "GET", "OPTIONS"])
def test_path_not_found(name: str, path: str) -> None:
    """Any other path is not found, whatever the method; a slash at the end makes another path."""
    with pytest.raises(PathNotFoundError):
        SHELVES.find(name, path)


MALFORMED = (
    "/v1/%",
    "/v1/%zz",
    "/v1/shelves%4",
    "/%/v1",
    "/v1/%FF",
    "/v1/%C3",
    "/v1/%C0%AF",
    "/v1/%ED%A0%80",
    "/v1/shelves%00",
    "/v1/files/%00",
    "/v1/files/\0",
    "/nowhere/%",
    "/v1/files/\u00e9",
    # The escape of one character in two segments.
    "/v1/files/%C3/%A9",
)
FAULT = Violation(detail="The path must be valid percent-encoded UTF-8 without NUL.")


@pytest.mark.parametrize("path", MALFORMED)
def test_malformed_path(path: str) -> None:
    """A malformed escape, what is not UTF-8, and NUL are faults of the request, and not quoted."""
    with pytest.raises(MalformedRequestError) as raised:
        SHELVES.find("GET", path)
    assert raised.value.violations == (FAULT,)


METHODS = router(
    "GET /a",
    "POST /a",
    "PUT /b",
    "GET /c",
    "HEAD /c",
    "* /d",
    "GET /d",
    "OPTIONS /e",
    "PUT /{name}",
    "LINK /*",
    "DELETE /{name}:drop",
)
SERVED: Mapping[str, str] = {
    "HEAD /a": "GET /a",
    "HEAD /c": "HEAD /c",
    # HEAD is answered as GET is (RFC 9110 section 9.3.2), before a rule for any method.
    "HEAD /d": "GET /d",
    "GET /d": "GET /d",
    "POST /d": "* /d",
    "OPTIONS /d": "* /d",
    "whatever /d": "* /d",
    "OPTIONS /e": "OPTIONS /e",
    # Another template serves the method that the better one does not.
    "PUT /a": "PUT /{name} a",
    "LINK /a": "LINK /*",
    "DELETE /a:drop": "DELETE /{name}:drop a",
    "PUT /a:drop": "PUT /{name} a:drop",
}


@pytest.mark.parametrize(("sent", "expected"), SERVED.items())
def test_methods(sent: str, expected: str) -> None:
    """A method is served by the best template that has it, by its own name before `*`."""
    assert found(METHODS, sent) == expected


NOT_ALLOWED: Mapping[str, str] = {
    "DELETE /a": "GET, HEAD, LINK, POST, PUT, OPTIONS",
    "OPTIONS /a": "GET, HEAD, LINK, POST, PUT, OPTIONS",
    "post /a": "GET, HEAD, LINK, POST, PUT, OPTIONS",
    " /a": "GET, HEAD, LINK, POST, PUT, OPTIONS",
    "P\u00d6ST /a": "GET, HEAD, LINK, POST, PUT, OPTIONS",
    "GET /b": "LINK, PUT, OPTIONS",
    "HEAD /b": "LINK, PUT, OPTIONS",
    "GET /e": "LINK, PUT, OPTIONS",
    "GET /x:drop": "DELETE, LINK, PUT, OPTIONS",
}


@pytest.mark.parametrize(("sent", "allow"), NOT_ALLOWED.items())
def test_method_not_allowed(sent: str, allow: str) -> None:
    """Under another method the path is there, and the answer tells all that are served there."""
    name, _, path = sent.partition(" ")
    with pytest.raises(MethodNotAllowedError) as raised:
        METHODS.find(name, path)
    assert raised.value.headers == {"Allow": allow}


@pytest.mark.parametrize(
    ("sent", "template"),
    [
        ("DELETE /a", "/a"),
        ("GET /b", "/b"),
        ("GET /q", "/{name}"),
        ("GET /e", "/e"),
        ("GET /x:drop", "/{name}:drop"),
    ],
)
def test_method_not_allowed_at_the_best_template(sent: str, template: str) -> None:
    """The error has the template that wins, of all that match the path."""
    name, _, path = sent.partition(" ")
    with pytest.raises(MethodNotAllowedError) as raised:
        METHODS.find(name, path)
    assert raised.value.template == template


# From the best to the worst, for the one path that all of them match.
PRECEDENCE: Mapping[str, tuple[str, ...]] = {
    "/a/b/c": (
        "GET /a/b/c",
        "GET /a/b/*",
        "GET /a/b/**",
        "GET /a/*/c",
        "GET /a/*/*",
        "GET /a/**/b/c",
        "GET /a/**/c",
        "GET /a/**",
        "GET /*/b/c",
        "GET /*/*/*",
        "GET /**/c",
        "GET /**",
    ),
    "/a/b:c:d": (
        "GET /a/b:c:d",
        "GET /a/*:c:d",
        "GET /**:c:d",
        "GET /a/*:d",
        "GET /**:d",
        "GET /a/*",
        "GET /**",
    ),
}


@pytest.mark.parametrize(("path", "rules"), PRECEDENCE.items())
def test_precedence(path: str, rules: tuple[str, ...]) -> None:
    """At each segment a literal goes before `*`, and `*` before `**`; a longer verb goes first."""
    for at, best in enumerate(rules):
        assert router(*reversed(rules[at:])).find("GET", path).target == best


@pytest.mark.parametrize(("path", "rules"), PRECEDENCE.items())
def test_order_does_not_matter(path: str, rules: tuple[str, ...]) -> None:
    """Of any three rules the same one is found, however the router was filled."""
    for three in zip(rules, rules[1:], rules[2:], strict=False):
        served = {router(*order).find("GET", path).target for order in permutations(three)}
        assert served == {three[0]}


BACK: Mapping[str, tuple[tuple[str, ...], str]] = {
    "from a literal": (("GET /a/b/x", "GET /*/b/c"), "/a/b/c"),
    "from two literals": (("GET /a/b/x", "GET /a/*/y", "GET /*/*/c"), "/a/b/c"),
    "from a segment": (("GET /a/*/x", "GET /a/**"), "/a/b/c"),
    "from what is behind": (("GET /a/**/x", "GET /**/c"), "/a/b/c"),
    "for a method": (("POST /a/b/c", "PUT /a/*/c", "GET /**"), "/a/b/c"),
    "for a method, within a verb": (("POST /a/b:c", "GET /a/*"), "/a/b:c"),
}


@pytest.mark.parametrize("name", BACK)
def test_the_way_back(name: str) -> None:
    """Where a better way leads nowhere, or to no rule for the method, the next one is taken."""
    rules, path = BACK[name]
    assert router(*rules).find("GET", path).target == rules[-1]


WILD = router(
    "GET /any/{name=**}",
    "GET /tail/{name=**}/x/y",
    "GET /tail/{name=**}/y",
    "GET /pair/{theme}/{name=a/*/b/**}/end",
    "GET /one/*/{name}",
    "GET /verb/{name=**}:read",
    "GET /verb/{name}:read:all",
    "GET /root:check",
)
CAPTURED: Mapping[str, str] = {
    "GET /any": "GET /any/{name=**} ",
    "GET /any/a": "GET /any/{name=**} a",
    "GET /any/a/b": "GET /any/{name=**} a/b",
    "GET /any/a//b": "GET /any/{name=**} a//b",
    "GET /any/": "GET /any/{name=**} ",
    "GET /any/a/": "GET /any/{name=**} a/",
    "GET /any/a%2Fb/c%2fd": "GET /any/{name=**} a%2Fb/c%2fd",
    # However many segments it caught, it is one for several.
    "GET /any/a%2Fb": "GET /any/{name=**} a%2Fb",
    "GET /any/a%20b%3Ac": "GET /any/{name=**} a b:c",
    "GET /tail/y": "GET /tail/{name=**}/y ",
    "GET /tail/x/y": "GET /tail/{name=**}/x/y ",
    "GET /tail/y/y": "GET /tail/{name=**}/y y",
    "GET /tail/a/x/y/x/y": "GET /tail/{name=**}/x/y a/x/y",
    "GET /pair/t/a/x%2Fy/b/end": "GET /pair/{theme}/{name=a/*/b/**}/end t a/x%2Fy/b",
    "GET /pair/t%2Fu/a/x/b/y/z/end": "GET /pair/{theme}/{name=a/*/b/**}/end t/u a/x/b/y/z",
    "GET /one/a/b": "GET /one/*/{name} b",
    "GET /verb/a/b:read": "GET /verb/{name=**}:read a/b",
    "GET /verb:read": "GET /verb/{name=**}:read ",
    "GET /verb/:read": "GET /verb/{name=**}:read ",
    "GET /verb/a/:read": "GET /verb/{name=**}:read a/",
    "GET /verb/a:read:all": "GET /verb/{name}:read:all a",
    "GET /verb/a:b:read": "GET /verb/{name=**}:read a:b",
    "GET /verb/a:%72ead": "GET /verb/{name=**}:read a",
    "GET /root:check": "GET /root:check",
}


@pytest.mark.parametrize(("sent", "expected"), [*CAPTURED.items()])
def test_wildcards(sent: str, expected: str) -> None:
    """`**` stands for any number of segments, none included, also in front of literals."""
    assert found(WILD, sent) == expected


@pytest.mark.parametrize(
    "path",
    [
        "/tail",
        "/tail/x",
        "/one/a/",
        "/one//b",
        "/verb/a",
        "/verb:read/a",
        "/root",
    ],
)
def test_wildcards_are_missed(path: str) -> None:
    """`*` stands for one segment that is not empty, a verb is no more than part of a segment."""
    with pytest.raises(PathNotFoundError):
        WILD.find("GET", path)


DUPLICATES: Mapping[str, tuple[str, str]] = {
    "the same": ("GET /a/{name}", "GET /a/{name}"),
    "another variable": ("GET /a/{name}", "GET /a/{theme}"),
    "no variable": ("GET /a/{name}", "GET /a/*"),
    "one variable for two": ("GET /a/{name=b/*}", "GET /a/b/{theme}"),
    "many": ("GET /a/{name=**}/b", "GET /a/**/b"),
    "an escape": ("GET /a%7E", "GET /a~"),
    "a verb": ("GET /{name}:read", "GET /*:%72ead"),
    "any": ("* /a", "* /a"),
}


@pytest.mark.parametrize("name", DUPLICATES)
def test_a_duplicate_is_refused(name: str) -> None:
    """Of two rules for the same requests one would be dead: the second is refused."""
    first, second = DUPLICATES[name]
    with pytest.raises(ValueError, match=r".") as raised:
        router("POST /a", first, second)
    kind, _, template = first.partition(" ")
    told = f"library.v1.Library.Do1: custom {kind!r} {template!r}"
    assert str(raised.value) == f"another rule serves the same requests: {told}"


def test_what_is_no_duplicate() -> None:
    """Rules that differ in a method, a verb or a kind of segment are all served."""
    rules = ("GET /a", "PUT /a", "* /a", "GET /a:b", "GET /*", "GET /**", "GET /**/a")
    assert {found(router(*rules), told) for told in ("GET /a", "PUT /a", "PATCH /a")} == {
        *rules[:3]
    }


def test_empty_router() -> None:
    """Without rules there is no path."""
    with pytest.raises(PathNotFoundError):
        router().find("GET", "/")


# Cost, counted in steps of the interpreter: a figure that no busy machine changes.


def _things(count: int) -> Iterable[str]:
    for number in range(count):
        yield from (
            f"GET /v1/things{number}",
            f"GET /v1/things{number}/{{name}}/files/{{theme=**}}",
        )


@pytest.mark.parametrize("path", ["/v1/things1", "/v1/things1/a/files/b/c", "/v1/none/a"])
def test_a_look_up_costs_the_same_with_more_rules(path: str) -> None:
    """With twenty times the rules it takes the same steps; the benchmark shows the time."""

    def look(made: Router[str]) -> Callable[[], object]:
        def find() -> None:
            try:
                made.find("GET", path)
            except PathNotFoundError:
                return

        return find

    few, many = router(*_things(10)), router(*_things(200))
    assert lines_of(look(few)) == lines_of(look(many))


LONG = 4096
ELASTIC = (
    "GET /a/**/x",
    "GET /a/**/x/x",
    "GET /a/*/**/x/z",
    "GET /a/{name=**}",
    "GET /**:read",
    "GET /**/x:read:all",
)
SLOW: Mapping[str, Callable[[int], str]] = {
    "slashes": lambda count: "/a" + "/" * count + "y",
    "segments": lambda count: "/a" + "/x" * count,
    "segments and an end": lambda count: "/a" + "/x" * count + "/y/x/x",
}
COLONS: Mapping[str, str] = {"colons": ":", "verbs": ":read", "words": ":x"}


@pytest.mark.parametrize("name", SLOW)
def test_no_path_is_slow(name: str) -> None:
    """A path that is twice as long takes no more than twice the steps, whatever is in it."""
    made = router(*ELASTIC)
    once, twice = (SLOW[name](count) for count in (LONG, 2 * LONG))
    assert lines_of(lambda: found(made, f"GET {twice}")) <= 2 * lines_of(
        lambda: found(made, f"GET {once}")
    )


@pytest.mark.parametrize("name", COLONS)
def test_no_segment_is_slow(name: str) -> None:
    """However many colons a segment has, no more of them are tried than a verb has."""
    made = router(*ELASTIC)
    once, twice = (f"GET /a/b{COLONS[name] * count}" for count in (LONG, 2 * LONG))
    assert lines_of(lambda: found(made, once)) == lines_of(lambda: found(made, twice))
