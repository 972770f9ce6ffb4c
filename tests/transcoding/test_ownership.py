"""Every leaf of a message has one owner: the path, the query or the body. No other can give it."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.transcoding.body import Json
from sidecar.transcoding.errors import MalformedRequestError
from sidecar.transcoding.strict_json import JsonObject, JsonValue
from tests.properties import many
from tests.transcoding.binders import assert_bound, bind, binder, faults_of

SEND = "must not be in the query; send it in the body."
NAME, CODE = f"?name name {SEND}", f"?shelfCode shelfCode {SEND}"
ESCAPES = "The query must be valid percent-encoded UTF-8."

QUERIES: Mapping[str, list[str]] = {
    "name=canary": [NAME],
    "name": [NAME],
    "name=": [NAME],
    "name=%zz": [NAME],
    "shelfCode=a": [CODE],
    "shelf_code=a": [CODE],
    "name.x.y=a": [NAME],
    "shelf_code.x=a": [CODE],
    "n%61me=a": [NAME],
    "name%2Ex=a": [NAME],
    "name=a&name=b": [NAME],
    "&name=a&&theme=b&": [NAME, f"?theme theme {SEND}"],
    "%zz=a": [ESCAPES],
    "%FF=a": [ESCAPES],
    "n\u00c3\u00a9e=a": [ESCAPES],
    "%=a&name=b&%=c": [ESCAPES, NAME],
}


@pytest.mark.parametrize("ignore", [False, True])
@pytest.mark.parametrize(("query", "violations"), QUERIES.items(), ids=repr)
def test_fields_of_the_body(query: str, violations: list[str], ignore: bool) -> None:
    """A parameter that names a field of the body is refused always, and its value is not told."""
    made = binder("/v1 *", "Shelf", ignore_unknown=ignore, ignore_duplicates=ignore)
    found = faults_of(made, "", query, '{"name":"a"}')
    assert found == violations
    assert "canary" not in str(found)


BY_PATH = "must not be in the query; the path gives it."
IN_BODY = "/name name must not be in the body; the path gives name."
WITHIN = "/name name must not be in the body; the path gives shelf.name."
TITLE = "must not be in the body; the path gives choice.byTitle."
# From a rule, the path, the query and the body to what is wrong.
TRESPASSES: Mapping[tuple[str, str, str, str], list[str]] = {
    ("/{name}", "a", "name=canary", ""): [f"?name name {BY_PATH}"],
    ("/{name}", "a", "name=a", ""): [f"?name name {BY_PATH}"],
    ("/{name}", "a", "name=&name", ""): [f"?name name {BY_PATH}"],
    ("/{name}", "a", "name.x=a", ""): [f"?name name {BY_PATH}"],
    ("/{name} *", "a", "name=b", ""): [f"?name name {BY_PATH}"],
    ("/{shelf.shelf_code}", "a", "shelf.shelfCode=b&shelf.shelf_code=b", ""): [
        f"?shelf.shelfCode shelf.shelfCode {BY_PATH}"
    ],
    ("/{shelf.name} shelf", "a", "shelf.name=b&shelf.theme=c", ""): [
        f"?shelf.name shelf.name {BY_PATH}",
        f"?shelf.theme shelf.theme {SEND}",
    ],
    ("/{name} *", "a", "", '{"name":"canary"}'): [IN_BODY],
    ("/{name} *", "a", "", '{"name":""}'): [IN_BODY],
    ("/{name} *", "a", "", "name=a"): [IN_BODY],
    ("/{shelf.shelf_code} *", "a", "", '{"shelf":{"shelf_code":"b"}}'): [
        "/shelf/shelfCode shelfCode must not be in the body; the path gives shelf.shelfCode."
    ],
    ("/{shelf.name} shelf", "a", "", '{"name":"b"}'): [WITHIN],
    ("/{shelf.name} shelf", "a", "", "name=b"): [WITHIN],
    # Fields that exclude each other, at each level.
    ("/{choice.by_title}", "a", "choice.byCode=1", ""): [
        "?choice.byCode choice.byCode in the query must not be given with choice.byTitle."
    ],
    ("/{choice.by_shelf.name}", "a", "choice.byTitle=", ""): [
        "?choice.byTitle choice.byTitle in the query must not be given with choice.byShelf.name."
    ],
    ("/{choice.by_title}", "a", "choice.byShelf.name=b", ""): [
        "?choice.byShelf choice.byShelf in the query must not be given with choice.byTitle."
    ],
    ("/{choice.by_title} *", "a", "", '{"choice":{"byCode":0}}'): [
        f"/choice/byCode byCode {TITLE}"
    ],
    ("/{choice.by_title} *", "a", "", "choice.byCode=0"): [f"/choice/byCode byCode {TITLE}"],
    ("/{choice.by_title} choice", "a", "", '{"by_shelf":{}}'): [f"/byShelf byShelf {TITLE}"],
    ("/{choice.by_title} choice", "a", "", '{"byNothing":null}'): [f"/byNothing byNothing {TITLE}"],
    ("/{choice.by_title} choice", "a", "", '{"byValue":null}'): [f"/byValue byValue {TITLE}"],
    # All at once
    ("/{copies} shelf", "canary", "copies=canary&nope=canary&mood=canary&%", '{"name":1}'): [
        f"copies in the path must be an integer from {-(2**63)} to {2**63 - 1}.",
        f"?copies copies {BY_PATH}",
        ESCAPES,
        "?nope nope in the query must be the name of a field.",
        "?mood mood in the query must be one of MOOD_UNSPECIFIED, MOOD_MERRY, MOOD_GLOOMY.",
        "/name name must be a string.",
    ],
}


@pytest.mark.parametrize("ignore", [False, True])
@pytest.mark.parametrize(("request_", "violations"), TRESPASSES.items(), ids=repr)
def test_trespasses(
    request_: tuple[str, str, str, str], violations: list[str], ignore: bool
) -> None:
    """A value for what the path or the body owns is refused, whatever it is and is called."""
    told, *parts = request_
    found = faults_of(binder(told, ignore_duplicates=ignore), *parts)
    assert found == violations
    assert "canary" not in str(found)


def test_oneof_of_query_and_body() -> None:
    """What the query gives must not exclude the field that is the body, if that is given."""
    made = binder("/v1 by_shelf", "Choice")
    rival = "?byTitle byTitle in the query must not be given together with the body."
    assert faults_of(made, "", "byTitle=&hint=a", "{}") == [rival]
    assert_bound(bind(made, "", "byTitle=a", "null"), '{"byTitle":"a"}')
    assert_bound(bind(made, "", "byTitle=a"), '{"byTitle":"a"}')
    assert_bound(bind(made, "", "hint=a", "{}"), '{"byShelf":{},"hint":"a"}')


# Near the path's field: its names, its parents and its rivals, at every level.
near = st.sampled_from(
    ["shelf", "name", "theme", "choice", "byTitle", "by_title", "byCode", "byShelf", "by_shelf"]
)
queries = st.lists(
    st.tuples(st.lists(near, min_size=1, max_size=3).map(".".join), st.sampled_from(["1", "", "%"]))
).map(lambda pairs: "&".join(f"{name}={text}" for name, text in pairs))
leaves: st.SearchStrategy[JsonValue] = st.sampled_from([None, "x", "", 1])
bodies = st.recursive(
    leaves, lambda inner: st.lists(st.tuples(near, inner), max_size=3).map(JsonObject), max_leaves=6
)
FIELDS = ("name", "shelf.name", "choice.by_title", "choice.by_code", "choice.by_shelf.name")


@settings(many, max_examples=60)
@given(
    st.sampled_from(FIELDS),
    st.sampled_from(["", "*", "shelf", "choice"]),
    queries,
    bodies,
    st.booleans(),
)
def test_what_the_path_says_is_what_is_called(
    field: str, body: str, query: str, value: JsonValue, ignore: bool
) -> None:
    """Whatever else a request says, its message has the value that is in its path."""
    made = binder(f"/{{{field}}} {body}", ignore_unknown=ignore, ignore_duplicates=ignore)
    content = Json(value=value) if body else None
    try:
        found: Any = made.bind(["7"], query, content)
    except MalformedRequestError:
        return
    for name in field.split("."):
        found = getattr(found, name)
    assert str(found) == "7"


@settings(many, max_examples=60)
@given(queries, bodies, st.booleans())
def test_what_the_body_says_is_what_is_called(query: str, value: JsonValue, ignore: bool) -> None:
    """Whatever the query says, the field that is the body has the value of the body."""
    made = binder("/v1 by_shelf", "Choice", ignore_unknown=ignore, ignore_duplicates=ignore)
    try:
        found: Any = made.bind([], query, Json(value=value))
    except MalformedRequestError:
        return
    alone: Any = made.bind([], "", Json(value=value))
    assert found.by_shelf == alone.by_shelf
    assert value is None or found.WhichOneof("key") == "by_shelf"
