"""Tests of bindings: where each value is from, and that no secret is in one."""

import json
from collections.abc import Mapping

import pytest
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import ServiceDescriptor

from sidecar.transcoding import Options
from sidecar.transcoding.explanation.bindings import MASK
from sidecar.transcoding.explanation.explainer import Explainer
from sidecar.transcoding.explanation.http_request import HttpRequest
from tests.transcoding.cases.case import JSON
from tests.transcoding.library import image, method, post, services_in

# The fields that are secret in the schema of these tests, by message.
SECRET = {"Shelf": {"theme"}, "Receipt": {"shelf", "tags", "copies"}, "Maps": {"strings"}}
TYPES = ("Shelf", "Receipt", "Lists", "Maps", "Pair")
ANY = "type.googleapis.com/library.v1"


def secretive() -> ServiceDescriptor:
    """Return a service with a method for each of TYPES, and one with a secret in the path."""
    files = image(
        *(method(f"Do{name}", post(f"/v1/{name}"), takes=name) for name in TYPES),
        method("Get", HttpRule(get="/v1/shelves/{theme}")),
        method("One", HttpRule(post="/v1/any", body="*"), takes="google.protobuf.Any"),
        method("Value", HttpRule(post="/v1/value", body="*"), takes="google.protobuf.Value"),
        method("Wrapped", HttpRule(get="/v1/wrapped"), takes="google.protobuf.StringValue"),
        method("InPath", HttpRule(get="/v1/{value}/x"), takes="google.protobuf.StringValue"),
        method("Part", HttpRule(post="/v1/part", body="one"), takes="Pair"),
    )
    for message in files.file[-1].message_type:
        for field in message.field:
            field.options.debug_redact = field.name in SECRET.get(message.name, ())
    (service,) = services_in(files)
    return service


EXPLAINER = Explainer({secretive(): Options()})


async def bound(target: str, body: object = None) -> Mapping[str, tuple[object, str]]:
    """Return value and source by field, for a request with `body` in JSON or none."""
    by = "GET" if body is None else "POST"
    request = HttpRequest(
        method=by,
        target=target,
        headers=() if body is None else (("Content-Type", JSON),),
        body=b"" if body is None else json.dumps(body).encode(),
    )
    explanation = await EXPLAINER.explain(request)
    assert explanation.status is None, explanation
    return {each.field: (each.value, each.source) for each in explanation.bindings}


SHELF = {"name": "a", "theme": "canary"}
HIDDEN = {"name": "a", "theme": MASK, "shelfCode": ""}


@pytest.mark.parametrize(
    ("target", "body", "fields"),
    [
        ("Shelf", SHELF, {"name": "a", "theme": MASK}),
        # A whole message, a list and a number
        ("Receipt", {"shelf": SHELF, "tags": ["canary"], "copies": 7}, ("shelf", "tags", "copies")),
        ("Lists", {"shelves": [SHELF, SHELF]}, {"shelves": [HIDDEN, HIDDEN]}),
        ("Maps", {"shelves": {"k": SHELF}}, {"shelves": {"k": HIDDEN}}),
        ("Maps", {"strings": {"canary": "canary"}}, {"strings": MASK}),
        ("Maps", {"int32s": {"1": "2"}}, {"int32s": {"1": "2"}}),
        ("Pair", {"one": {"byShelf": SHELF}}, {"one.byShelf.name": "a", "one.byShelf.theme": MASK}),
        ("Pair", {"one": {}}, {"one": {}}),
        (
            "Lists",
            {"anys": [{"@type": f"{ANY}.Shelf", **SHELF}, {}]},
            {"anys": [{"@type": f"{ANY}.Shelf", **HIDDEN}, {}]},
        ),
        ("any", {"@type": f"{ANY}.Shelf", **SHELF}, {"": {"@type": f"{ANY}.Shelf", **HIDDEN}}),
        (
            "any",
            {
                "@type": "type.googleapis.com/google.protobuf.Any",
                "value": {"@type": f"{ANY}.Shelf", **SHELF},
            },
            {
                "": {
                    "@type": "type.googleapis.com/google.protobuf.Any",
                    "value": {"@type": f"{ANY}.Shelf", **HIDDEN},
                }
            },
        ),
        ("value", {"theme": ["no field"]}, {"": {"theme": ["no field"]}}),
        ("Lists", {"times": ["2026-01-31T12:00:00Z"]}, {"times": ["2026-01-31T12:00:00Z"]}),
    ],
)
async def test_secrets_are_masked(
    target: str, body: object, fields: Mapping[str, object] | tuple[str, ...]
) -> None:
    """A field that the schema redacts is masked at every depth, and no other is."""
    expected = dict.fromkeys(fields, MASK) if isinstance(fields, tuple) else fields
    found = await bound(f"/v1/{target}", body)
    assert {name: value for name, (value, _) in found.items()} == expected
    assert {source for _, source in found.values()} == {"body"}
    assert "canary" not in str(found)


async def test_a_secret_in_the_path_is_masked() -> None:
    """A secret is masked wherever it stands."""
    assert await bound("/v1/shelves/canary") == {"theme": (MASK, "path")}


async def test_a_message_that_is_one_value() -> None:
    """A well-known type as the message is one value, from wherever its rule takes it."""
    assert await bound("/v1/wrapped?value=a") == {"": ("a", "query")}
    assert await bound("/v1/a/x") == {"": ("a", "path")}
    assert await bound("/v1/value", "a") == {"": ("a", "body")}


async def test_the_field_of_the_body_is_a_source() -> None:
    """Only fields within the field of the body are from there; the others are from the query."""
    assert await bound("/v1/part?other.hint=q", {"hint": "b"}) == {
        "one.hint": ("b", "body"),
        "other.hint": ("q", "query"),
    }
