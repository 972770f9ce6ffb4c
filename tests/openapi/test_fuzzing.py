"""Tests of the document and the server against each other, by requests that schemathesis makes."""

import asyncio
import copy
import dataclasses
from collections.abc import Callable

import pytest

from tests.openapi.described import Tree
from tests.openapi.fuzzing import Result, fuzz
from tests.openapi.scene import Scene

pytestmark = pytest.mark.unmeasured

both = pytest.mark.parametrize("has_credentials", [False, True], ids=["anonymous", "basic"])


async def fuzzed(scene: Scene, *, examples: int, has_credentials: bool, seed: int = 1) -> Result:
    """Fuzz the sidecar in a thread, so that its log is read meanwhile."""
    return await asyncio.to_thread(
        fuzz,
        scene.document,
        scene.url,
        examples=examples,
        has_credentials=has_credentials,
        seed=seed,
    )


@both
async def test_document_and_server_agree(scene: Scene, *, has_credentials: bool) -> None:
    """Some eighty requests, valid and invalid by the document, get the described responses."""
    result = await fuzzed(scene, examples=30, has_credentials=has_credentials)
    assert result.failures == []
    assert {"examples", "coverage", "fuzzing"} <= result.requests.keys()
    assert result.requests.total() >= 80
    assert {200, 400, 405} <= result.statuses.keys()


@pytest.mark.soak
@both
async def test_document_and_server_agree_for_long(scene: Scene, *, has_credentials: bool) -> None:
    """Some thousand requests get the described responses too."""
    result = await fuzzed(scene, examples=3000, has_credentials=has_credentials, seed=2)
    print(f"\nschemathesis: {result.requests}, {result.statuses}")  # noqa: T201 its figures
    assert result.failures == []
    assert result.requests.total() >= 3000


def _request(document: Tree) -> Tree:
    return document["components"]["schemas"]["ExchangeTokenRequest"]["properties"]


def _free_grant_type(document: Tree) -> None:
    del _request(document)["grant_type"]["const"]


def _strict_null(document: Tree) -> None:
    _request(document)["client_secret"]["type"] = "string"


def _other_code(document: Tree) -> None:
    problem = document["components"]["schemas"]["ProblemDetails"]
    problem["properties"]["karmoCode"]["pattern"] = "^[0-9]{7}$"


def _no_problem_json(document: Tree) -> None:
    for response in document["components"]["responses"].values():
        response["content"] = {"text/plain": {}}


def _another_header(document: Tree) -> None:
    document["components"]["headers"]["X-Request-Id"]["schema"] = {"type": "integer"}


# Wrong documents, and what schemathesis says about each.
WRONG = {
    "grant_type may be anything": (_free_grant_type, "Schema-valid request rejected"),
    "null is invalid": (_strict_null, "Schema-violating request accepted"),
    "karmoCode has seven digits": (_other_code, "Response violates schema"),
    "errors are plain text": (_no_problem_json, "Undocumented Content-Type"),
    "X-Request-Id is a number": (_another_header, "Response header"),
}


@pytest.mark.parametrize(("change", "failure"), WRONG.values(), ids=WRONG)
async def test_a_wrong_document_is_noticed(
    scene: Scene, change: Callable[[Tree], None], failure: str
) -> None:
    """If the document says something else than what the server does, there are failures."""
    document = copy.deepcopy(scene.document)
    change(document)
    wrong = dataclasses.replace(scene, document=document)
    result = await fuzzed(wrong, examples=10, has_credentials=True)
    assert [text for text in result.failures if failure.lower() in text.lower()], result.failures
