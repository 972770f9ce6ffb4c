"""The reference: everything that the OpenAPI document says is on the page, and nothing more."""

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from google.api.http_pb2 import CustomHttpPattern, HttpRule
from google.protobuf.descriptor import ServiceDescriptor
from starlette.applications import Starlette

from sidecar.api import EXAMPLES, SERVICES, limits_of
from sidecar.problems import CATALOGUE
from sidecar.rest import openapi
from sidecar.rest.openapi import Examples
from sidecar.rest.pages import reference
from sidecar.rest.pages.document import Document, anchor
from sidecar.rest.pages.reference import Limit
from sidecar.rest.pages.samples import Sample
from sidecar.settings.sources import load
from sidecar.transcoding import JsonFormat, Options
from sidecar.transcoding.openapi.document import describe
from tests.rest.html_page import Page
from tests.transcoding.library import method, service
from tests.ways import PUBLIC_URL

SAMPLE = Sample(name="a.sh", language="Shell", text='curl "http://127.0.0.1:8080/v1/oauth/token"\n')
LIMITS = [Limit(name="Size", value="1 byte", beyond="413")]
Tree = Mapping[str, Any]


def tree_of(
    services: Mapping[ServiceDescriptor, Options] = SERVICES,
    examples: Mapping[str, Examples] = EXAMPLES,
) -> dict[str, Any]:
    """Return the OpenAPI document of `services`."""
    return openapi.document(services, examples, public_url=PUBLIC_URL)


@asynccontextmanager
async def shown(
    tree: Tree, limits: list[Limit] = LIMITS, samples: tuple[Sample, ...] = (SAMPLE,)
) -> AsyncIterator[Page]:
    """Give the page of a document."""
    document = Document(tree=tree, public_url=PUBLIC_URL)
    app = Starlette(routes=[reference.route(document, limits, samples)])
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url=PUBLIC_URL) as client:
        yield Page(await client.get("/docs"))


@pytest_asyncio.fixture(scope="module", name="page")
async def _page() -> AsyncIterator[Page]:
    async with shown(tree_of()) as page:
        yield page


def within(tree: Any, key: str) -> Iterator[Any]:
    """Yield every value of `key` in a tree."""
    if isinstance(tree, Mapping):
        if key in tree:
            yield tree[key]
        tree = list(tree.values())
    if isinstance(tree, list):
        for each in tree:
            yield from within(each, key)


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a description as they are read."""
    return [" ".join(each.split()) for each in text.replace("`", "").split("\n\n")]


def test_the_document_has_what_the_tests_look_for() -> None:
    """The tests below are not empty."""
    tree = tree_of()
    assert len(list(within(tree, "properties"))) >= 5
    assert len(list(within(tree, "description"))) > 30


async def test_every_operation(page: Page) -> None:
    """Method, URL, summary and description of each operation are there."""
    for path, item in tree_of()["paths"].items():
        for name, operation in item.items():
            assert {name.upper(), f"{PUBLIC_URL}{path}", operation["summary"]} <= set(page.texts)
            for paragraph in paragraphs(operation["description"]):
                assert paragraph in page.text


async def test_every_member(page: Page) -> None:
    """Each member of each object is there with its description and constraints."""
    for properties in within(tree_of(), "properties"):
        for name, schema in properties.items():
            assert name in page.texts
            for paragraph in paragraphs(schema.get("description", "")):
                assert paragraph in page.text
            for keyword in {"const", "pattern", "minimum", "maximum", "maxItems"} & schema.keys():
                assert str(schema[keyword]) in page.texts


async def test_every_status(page: Page) -> None:
    """Each response is there with its header fields, and each has a place to link to."""
    tree = tree_of()
    (operation,) = (each for item in tree["paths"].values() for each in item.values())
    for status in operation["responses"]:
        assert any(text.startswith(f"{status} ") for text in page.texts) or status == "200"
        if status != "200":
            assert f"{operation['operationId'].lower()}-{status.lower()}" in page.ids
    for name, header in tree["components"]["headers"].items():
        assert f"header-{name.lower()}" in page.ids
        assert header["description"] in page.texts


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=lambda entry: entry.name)
async def test_every_problem(page: Page, entry: Any) -> None:
    """Each problem is there with its code, cause, remedy and example, and leads to its page."""
    told = {entry.title, entry.karmo_code, entry.oauth_error, entry.meaning, entry.remedy}
    assert told <= set(page.texts)
    assert f"{PUBLIC_URL}/problems/{entry.slug}" in page.links
    example = tree_of()["components"]["examples"][entry.slug]["value"]
    assert example in [json.loads(each) for each in page.preformatted if each.startswith("{")]


async def test_examples(page: Page) -> None:
    """The bodies of requests are shown as a form and as JSON, and so is the response."""
    (operation,) = (each for item in tree_of()["paths"].values() for each in item.values())
    trees = [json.loads(each) for each in page.preformatted if each.startswith("{")]
    for media, content in operation["requestBody"]["content"].items():
        for example in content["examples"].values():
            form = "&".join(f"{name}={value}" for name, value in example["value"].items())
            is_json = media == "application/json"
            assert example["value"] in trees if is_json else form in page.preformatted
    assert operation["responses"]["200"]["content"]["application/json"]["example"] in trees


async def test_authentication(page: Page) -> None:
    """Both ways to authenticate a client are there."""
    (scheme,) = tree_of()["components"]["securitySchemes"].values()
    assert {"HTTP Basic authentication", "Credentials in the body"} <= set(page.texts)
    assert scheme["description"] in page.texts


async def test_authentication_that_is_required() -> None:
    """Where every operation needs the header, no other way to authenticate is shown."""
    tree = tree_of()
    (operation,) = (each for item in tree["paths"].values() for each in item.values())
    operation["security"] = [{"basic": []}]
    async with shown(tree) as page:
        assert "HTTP Basic authentication" in page.texts
        assert "Credentials in the body" not in page.texts


async def test_limits() -> None:
    """The limits are those of the settings."""
    settings = load(
        {},
        {
            "auth_api_token_url": "https://auth.example.test/token",
            "header_timeout": "1.5s",
            "request_timeout": "7s",
            "rest_keep_alive": "61s",
            "max_client_failures": "71",
            "max_address_failures": "1234",
            "max_client_calls": "5678",
        },
    )
    async with shown(tree_of(), [*limits_of(settings)]) as page:
        values = {"1.5 s", "7 s", "61 s", "8 KiB", "64, together 16 KiB", "16 KiB"}
        rates = {f"{rate} per minute" for rate in ("71", "1,234", "5,678")}
        assert values | rates <= set(page.texts)
        assert {"408", "413", "414", "431"} <= set(page.texts)


async def test_samples(page: Page) -> None:
    """A program on the page calls the public URL."""
    assert f'curl "{PUBLIC_URL}/v1/oauth/token"\n' in page.preformatted


@pytest.mark.parametrize("url", ["/v1/oauth/token/x", "/v1/oauth", "/other"])
def test_a_sample_of_no_operation_is_refused(url: str) -> None:
    """A program that calls something else than the API stops the start."""
    sample = Sample(name="a.sh", language="Shell", text=f"curl http://127.0.0.1:8080{url}\n")
    document = Document(tree=tree_of(), public_url=PUBLIC_URL)
    with pytest.raises(ValueError, match="Shell calls no operation"):
        reference.route(document, (), [sample])


HOSTILE = "</code><script>alert(1)</script>\"'&amp;<img src=x onerror=x>"


KEPT = {"$ref", "operationId", "tags", "required"}


def spoilt(tree: Any, *, has_names: bool = False) -> Any:
    """Return a document whose every text, and every name of a member, has markup in it."""
    if isinstance(tree, list):
        return [spoilt(each) for each in tree]
    if isinstance(tree, Mapping):
        return {
            f"{key}{HOSTILE}" if has_names else key: each
            if key in KEPT
            else spoilt(each, has_names=key == "properties")
            for key, each in tree.items()
        }
    return f"{tree}{HOSTILE}" if isinstance(tree, str) else tree


async def test_everything_is_escaped() -> None:
    """No text of a document can become a part of the markup, wherever it stands."""
    tree = {**spoilt(tree_of()), "tags": spoilt(tree_of()["tags"])}
    async with shown(tree, [Limit(name=HOSTILE, value=HOSTILE, beyond=HOSTILE)]) as page:
        assert page.text.count("<script>alert(1)</script>") > 100


# Another API


RULES: Mapping[str, HttpRule] = {
    "Get": HttpRule(get="/v1/{name=shelves/*}"),
    "Create": HttpRule(post="/v1/shelves", body="*"),
    "Remove": HttpRule(delete="/v1/shelves/{shelf_code}"),
    "Search": HttpRule(get="/v1/search"),
    "Any": HttpRule(custom=CustomHttpPattern(kind="*", path="/v1/any")),
}
# The other methods take a shelf. One of the fields of Known is JSON in a query.
TAKES = {"Search": "Known"}
# Every kind of field is in a book.
OBJECTS = ("Book", "Pair")


def used(tree: Tree) -> list[Tree]:
    """Return the schemas of messages of the library."""
    errors = {"ProblemDetails", "FieldError"}
    return [each for name, each in tree["components"]["schemas"].items() if name not in errors]


async def test_another_api() -> None:
    """Any number of operations, with parameters and without examples, makes a page."""
    objects = (
        method(f"Send{name}", HttpRule(post=f"/v1/{name}", body="*"), takes=name, gives=name)
        for name in OBJECTS
    )
    library = service(
        *(method(name, rule, takes=TAKES.get(name, "Shelf")) for name, rule in RULES.items()),
        *objects,
    )
    tree: dict[str, Any] = describe({library: Options()}, {"title": "A library", "version": "1"})
    async with shown(tree, [], ()) as page:
        for path, item in tree["paths"].items():
            for operation in item.values():
                assert f"{PUBLIC_URL}{path}" in page.texts
                assert anchor(operation["operationId"]) in page.ids
                for parameter in operation.get("parameters", ()):
                    assert parameter["name"] in page.texts
        assert "In the query as" in page.text
        for properties in within([tree["paths"], *used(tree)], "properties"):
            assert set(properties) <= set(page.texts)
        assert len(page.ids) == len(set(page.ids))
        assert not {"Authentication", "Header fields", "Limits", "Errors"} & set(page.texts)


async def test_enums_as_numbers() -> None:
    """Where an enum is a number, the page has the names of the numbers too."""
    library = service(method("Send", HttpRule(post="/v1/a", body="*"), takes="Receipt"))
    options = Options(json_format=JsonFormat(enum_numbers=True))
    tree: dict[str, Any] = describe({library: options}, {"title": "A library", "version": "1"})
    async with shown(tree, [], ()) as page:
        assert "One of: 0, 1, 2" in page.text
        names = "MOOD_UNSPECIFIED, MOOD_MERRY, MOOD_GLOOMY"
        assert f"Names, in the same order: {names}" in page.text


def test_titles_of_contents_are_short() -> None:
    """What stands in parentheses at the end of a summary is left out of the contents."""
    assert re.sub(reference._PARENTHESIS, "", "Gets a (new) token (RFC 6749)") == (
        "Gets a (new) token"
    )
