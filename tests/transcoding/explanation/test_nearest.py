"""Tests of the rules that come nearest to a path."""

import pytest
from google.api.http_pb2 import HttpRule

from sidecar.transcoding.errors import SchemaViolations
from sidecar.transcoding.explanation.nearest import find_nearest
from sidecar.transcoding.rules import read_rules
from tests.transcoding.library import method, service

TEMPLATES = (
    "/v1/shelves",
    "/v1/shelves/{name}",
    "/v1/shelves/{name}:Archive",
    "/v1/shelves/{name}/books/{theme}",
    "/v1/files/{name=**}",
    "/{name}/only",
    "/Mixed/Case",
)
RULES = read_rules(
    [
        service(
            *(method(f"M{number}", HttpRule(get=text)) for number, text in enumerate(TEMPLATES)),
            method("Any", HttpRule(custom={"kind": "*", "path": "/any/kind"})),
        )
    ],
    SchemaViolations(),
)
SLASH = "the path has a slash too many or too few"
CASE = "the path is in another case"
VERB = "the path has another verb after its last colon, or none"


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("/v1/shelves/", [("/v1/shelves", SLASH)]),
        ("/v1//shelves", [("/v1/shelves", SLASH)]),
        ("//v1/shelves", [("/v1/shelves", SLASH)]),
        ("/v1/shelves/a/", [("/v1/shelves/{name}", SLASH)]),
        ("/any/kind/", [("/any/kind", SLASH)]),
        ("/V1/shelves", [("/v1/shelves", CASE)]),
        ("/mixed/case", [("/Mixed/Case", CASE)]),
        ("/v1/shelves:x", [("/v1/shelves", VERB)]),
        ("/any/kind:", [("/any/kind", VERB)]),
        (
            "/V1/shelves/a:archive",
            [("/v1/shelves/{name}", CASE), ("/v1/shelves/{name}:Archive", CASE)],
        ),
        # Segments in common
        ("/v1/shelves/a/books", [("/v1/shelves/{name}/books/{theme}", "segments in common: 4")]),
        ("/v1/shelve", [(each, "segments in common: 1") for each in TEMPLATES[:5]]),
        ("/v1/sh%65lves/a/b/c", [(each, "segments in common: 3") for each in TEMPLATES[1:4]]),
        ("/v2/shelves", []),
        ("/", []),
        ("/v2", []),
    ],
)
def test_find_nearest(path: str, nearest: list[tuple[str, str]]) -> None:
    """The rules that one difference separates come first, else those with the longest prefix."""
    found = find_nearest(path, RULES)
    assert [(near.rule.template.text, near.difference) for near in found] == nearest


def test_without_rules() -> None:
    """Without rules none is near."""
    assert find_nearest("/v1", []) == ()
