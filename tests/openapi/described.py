"""Checks of responses against the committed OpenAPI document."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import httpx2
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from tests.sidecar_process import ROOT

# Any: a tree of JSON.
Tree = Any
COMMITTED = ROOT / "docs/openapi.json"
DOCUMENT: Tree = json.loads(COMMITTED.read_text("utf-8"))
_ID = "urn:karmo:openapi"


async def check_response(response: httpx2.Response) -> None:
    """Assert that `response` is one that the document describes.

    An event hook of clients. A response to a request that no operation describes must be a
    described problem if it is an error, and may be anything otherwise.
    """
    request = response.request
    operation = DOCUMENT["paths"].get(request.url.path, {}).get(request.method.lower())
    if operation is None and response.status_code < 400:
        return
    content = await response.aread()
    described = operation["responses"] if operation else DOCUMENT["components"]["responses"]
    body = json.loads(content) if request.method != "HEAD" else ...
    _check(described, response.status_code, response.headers, body)


def check_problem(status: int, headers: Mapping[str, str], problem: Mapping[str, Any]) -> None:
    """Assert that a response with `problem` is one that the document describes."""
    _check(DOCUMENT["components"]["responses"], status, headers, problem)


def errors_of(schema: Tree, value: Tree) -> list[str]:
    """Return what is wrong with `value` by a schema of the document."""
    return [error.message for error in _validator(json.dumps(schema)).iter_errors(value)]


def resolve(tree: Tree) -> Tree:
    """Return the object that a Reference Object of the document names, or `tree` itself."""
    if "$ref" not in tree:
        return tree
    target = DOCUMENT
    for name in tree["$ref"].removeprefix("#/").split("/"):
        target = target[name]
    return resolve(target)


def _check(described: Tree, status: int, headers: Mapping[str, str], body: Tree) -> None:
    """Assert that the response is in `described`, a Responses Object; `...` is no body."""
    name = str(status) if str(status) in described else f"{status // 100}XX"
    assert name in described, status
    expected = resolve(described[name])
    media_type = headers["content-type"].partition(";")[0]
    assert media_type in expected["content"]
    for field, reference in expected["headers"].items():
        header = resolve(reference)
        value = headers.get(field.lower())
        assert value is not None or not header.get("required"), field
        if value is not None:
            is_number = header["schema"]["type"] == "integer"
            assert errors_of(header["schema"], int(value) if is_number else value) == [], field
    if body is not ...:
        assert errors_of(expected["content"][media_type]["schema"], body) == []


@cache
def _validator(schema: str) -> Draft202012Validator:
    registry: Registry[Tree] = Registry().with_resource(_ID, DRAFT202012.create_resource(DOCUMENT))
    # References inside the document are relative to it.
    tree = json.loads(schema.replace('"#/', f'"{_ID}#/'))
    checker = Draft202012Validator.FORMAT_CHECKER
    return Draft202012Validator(tree, registry=registry, format_checker=checker)
