"""Tests of versions: the document breaks no client of the last release, and all versions agree."""

import copy
import json
import re
import tomllib
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import pytest

from tests.openapi.compatibility import breaks
from tests.openapi.described import DOCUMENT, Tree
from tests.sidecar_process import ROOT

RELEASED: Tree = json.loads((ROOT / "docs/openapi-released.json").read_text("utf-8"))
PATH = "/v1/oauth/token"
FORM, JSON, PROBLEM = (
    "application/x-www-form-urlencoded",
    "application/json",
    "application/problem+json",
)


def test_nothing_breaks_clients_of_the_last_release() -> None:
    """Every request of docs/openapi-released.json is still allowed, every response described."""
    assert breaks(RELEASED, DOCUMENT) == []


# A change of a document.
Change = Callable[[Tree], object]


def at(*names: str) -> Callable[[Tree], Tree]:
    """Return a function from a document to the object at this place."""

    def find(document: Tree) -> Tree:
        for name in names:
            document = document[name]
        return document

    return find


def puts(place: Callable[[Tree], Tree], **members: Any) -> Change:
    """Return a change that sets members of an object."""
    return lambda document: place(document).update(members)


def drops(place: Callable[[Tree], Tree], name: str) -> Change:
    """Return a change that removes a member of an object."""
    return lambda document: place(document).pop(name)


def removes(place: Callable[[Tree], Tree], item: Any) -> Change:
    """Return a change that removes an item of a list."""
    return lambda document: place(document).remove(item)


def adds(place: Callable[[Tree], Tree], *items: Any) -> Change:
    """Return a change that adds items to a list."""
    return lambda document: place(document).extend(items)


_SCHEMAS = ("components", "schemas")
operation = at("paths", PATH, "post")
form = at("paths", PATH, "post", "requestBody", "content", FORM, "schema")
request = at(*_SCHEMAS, "ExchangeTokenRequest")
token = at(*_SCHEMAS, "ExchangeTokenResponse")
problem = at(*_SCHEMAS, "ProblemDetails")
fault = at(*_SCHEMAS, "FieldError")


def of(schema: Callable[[Tree], Tree], name: str) -> Callable[[Tree], Tree]:
    """Return a function from a document to a property of `schema`."""
    return lambda document: schema(document)["properties"][name]


def required(schema: Callable[[Tree], Tree]) -> Callable[[Tree], Tree]:
    """Return a function from a document to the list of required properties of `schema`."""
    return lambda document: schema(document)["required"]


# Each change that must be refused, and a part of what is said about it.
REFUSED: Mapping[str, tuple[Change, str]] = {
    "path": (drops(at("paths"), PATH), f"{PATH}: removed"),
    "operation": (drops(at("paths", PATH), "post"), f"POST {PATH}: removed"),
    "operationId": (puts(operation, operationId="exchange"), "operationId: changed"),
    "status": (drops(at("paths", PATH, "post", "responses"), "409"), "409: removed"),
    "statuses": (drops(at("paths", PATH, "post", "responses"), "5XX"), "5XX: removed"),
    "form": (drops(at("paths", PATH, "post", "requestBody", "content"), FORM), f"{FORM}: removed"),
    "problem": (
        drops(at("components", "responses", "400", "content"), PROBLEM),
        f"400 {PROBLEM}: removed",
    ),
    "way of authentication": (removes(at("paths", PATH, "post", "security"), {}), "a way was"),
    "other scheme": (
        puts(at("components", "securitySchemes", "basic"), scheme="bearer"),
        "scheme basic: changed",
    ),
    "header": (drops(at("components", "responses", "401", "headers"), "WWW-Authenticate"), "401"),
    "header is optional": (
        puts(at("components", "headers", "X-Request-Id"), required=False),
        "200 header X-Request-Id: removed",
    ),
    "new required parameter": (
        puts(operation, parameters=[{"in": "query", "name": "x", "required": True, "schema": {}}]),
        "query x: required",
    ),
    "request member": (
        drops(at(*_SCHEMAS, "ExchangeTokenRequest", "properties"), "client_id"),
        "client_id: r",
    ),
    "form member": (lambda d: form(d)["properties"].pop("client_id"), f"{FORM}.client_id: removed"),
    "request member is required": (adds(required(request), "client_id"), "required client_id"),
    "form member is required": (adds(required(form), "client_id"), f"{FORM}: required client_id"),
    "null is refused": (puts(of(request, "client_id"), type="string"), f"{JSON}.client_id: type"),
    "request type": (puts(of(form, "client_id"), type="integer"), "client_id: type"),
    "request enum": (puts(of(form, "client_id"), enum=["a", "b"]), "client_id: enum"),
    "request const": (puts(of(form, "grant_type"), const="password"), "grant_type: enum"),
    "request pattern": (puts(of(form, "client_id"), pattern="^[a-z]*$"), "client_id: pattern"),
    "request format": (puts(of(form, "client_id"), format="uuid"), "client_id: format"),
    "request length": (puts(of(request, "client_secret"), maxLength=8), "client_secret: maxLength"),
    "request minimum": (puts(of(form, "client_secret"), minLength=8), "client_secret: minLength"),
    "closed request": (puts(request, additionalProperties=False), "additionalProperties"),
    "request choice": (puts(request, anyOf=[{"required": ["client_id"]}]), "anyOf changed"),
    "token member": (
        drops(at(*_SCHEMAS, "ExchangeTokenResponse", "properties"), "expires_in"),
        "in: r",
    ),
    "token member is optional": (removes(required(token), "expires_in"), "required expires_in"),
    "token type": (puts(of(token, "expires_in"), type="string"), "200 application/json.expires_in"),
    "token type is wider": (puts(of(token, "expires_in"), type="number"), "expires_in: type"),
    "token may be null": (
        puts(of(token, "access_token"), type=["string", "null"]),
        "access_token: type",
    ),
    "another token type": (puts(of(token, "token_type"), const="DPoP"), "token_type: enum"),
    "any token type": (drops(of(token, "token_type"), "const"), "token_type: enum"),
    "token may be empty": (drops(of(token, "access_token"), "minLength"), "access_token: minL"),
    "lower minimum": (puts(of(token, "expires_in"), minimum=0), "expires_in: minimum"),
    "problem member": (drops(at(*_SCHEMAS, "ProblemDetails", "properties"), "detail"), "detail"),
    "problem member is optional": (removes(required(problem), "karmoCode"), "required karmoCode"),
    "code is wider": (puts(of(problem, "karmoCode"), pattern="^[0-9]*$"), "karmoCode: pattern"),
    "type is no URI": (drops(of(problem, "type"), "format"), "type: format"),
    "more errors": (drops(of(problem, "karmoErrors"), "maxItems"), "karmoErrors: maxItems"),
    "errors are anything": (drops(of(problem, "karmoErrors"), "items"), "karmoErrors[]"),
    "error member is optional": (removes(required(fault), "pointer"), "karmoErrors[]: required"),
    "a type inside": (puts(of(fault, "detail"), type="integer"), "karmoErrors[].detail: type"),
}
ALLOWED: Mapping[str, Change] = {
    "nothing": lambda _: None,
    "texts": puts(of(problem, "title"), description="Other words."),
    "version": puts(at("info"), version="2.0.0"),
    "server": puts(at(), servers=[]),
    "new path": puts(at("paths"), **{"/v1/other": {"get": {}}}),
    "new operation": puts(at("paths", PATH), get={"operationId": "x", "responses": {}}),
    "new status": puts(at("paths", PATH, "post", "responses"), **{"202": {"description": ""}}),
    "new media type of requests": puts(
        at("paths", PATH, "post", "requestBody", "content"), **{"application/cbor": {}}
    ),
    "new way of authentication": adds(at("paths", PATH, "post", "security"), {"other": []}),
    "new optional parameter": puts(
        operation, parameters=[{"in": "query", "name": "x", "schema": {}}]
    ),
    "new request member": lambda d: form(d)["properties"].update(scope={"type": "string"}),
    "new token member": lambda d: token(d)["properties"].update(scope={"type": "string"}),
    "new required problem member": lambda d: (
        problem(d)["properties"].update(x={"type": "string"}),
        problem(d)["required"].append("x"),
    ),
    "request member is optional": removes(required(form), "grant_type"),
    "request type is wider": puts(of(form, "client_id"), type=["string", "integer"]),
    "any grant": drops(of(form, "grant_type"), "const"),
    "more grants": lambda d: (
        of(form, "grant_type")(d).pop("const"),
        of(form, "grant_type")(d).update(enum=["client_credentials", "refresh_token"]),
    ),
    "any characters": drops(of(form, "client_id"), "pattern"),
    "narrower token": puts(of(token, "access_token"), minLength=20, maxLength=9000),
    "narrower problem": puts(of(problem, "status"), maximum=503),
    "one type of error": puts(of(problem, "error"), enum=["invalid_request"]),
    "optional member becomes required": adds(required(problem), "instance"),
    "another name of a schema": lambda d: d["components"]["schemas"].update(
        ProblemDetails={"$ref": "#/components/schemas/Problem"}, Problem=problem(d)
    ),
}


def changed(change: Change) -> Tree:
    """Return the document with a change."""
    document = copy.deepcopy(DOCUMENT)
    change(document)
    return document


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_a_break_is_refused(change: Change, message: str) -> None:
    """A change after which a client of before may fail is found, and said where it is."""
    found = breaks(DOCUMENT, changed(change))
    assert [text for text in found if message in text], found


@pytest.mark.parametrize("change", ALLOWED.values(), ids=ALLOWED)
def test_what_breaks_nothing_is_allowed(change: Change) -> None:
    """A change that no client of before notices is allowed."""
    assert breaks(DOCUMENT, changed(change)) == []


def test_a_type_may_contain_itself() -> None:
    """A schema that refers to itself is compared once."""
    error = {"type": "array", "items": {"$ref": "#/components/schemas/FieldError"}}
    document = changed(lambda d: fault(d)["properties"].update(inner=error))
    assert breaks(document, document) == []


def test_versions_agree() -> None:
    """The document, the packages and the newest entry of the changelog have one version."""
    (newest, *_) = re.findall(
        r"^## (\d+\.\d+\.\d+) \(\d{4}-\d{2}-\d{2}\)$",
        (ROOT / "CHANGELOG.md").read_text("utf-8"),
        re.MULTILINE,
    )
    projects = [ROOT / "pyproject.toml", *ROOT.glob("clients/python/pyproject.toml")]
    versions = [tomllib.loads(path.read_text("utf-8"))["project"]["version"] for path in projects]
    versions += [DOCUMENT["info"]["version"], version("karmo-sidecar")]
    assert versions == [newest] * len(versions)
