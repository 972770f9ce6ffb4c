"""Tests of the OpenAPI document as a whole: valid, current, cacheable, and true to the contract."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.openapi.described import COMMITTED, DOCUMENT, Tree, errors_of, resolve
from tests.sidecar_process import SIDECAR, printed, run, serving
from tests.tls.test_reloading import Mount, leaf_of, pair
from tests.ways import PUBLIC_URL, Deployment

PATH = "/v1/oauth/token"
OPERATION = DOCUMENT["paths"][PATH]["post"]
FORM, JSON, PROBLEM_JSON = (
    "application/x-www-form-urlencoded",
    "application/json",
    "application/problem+json",
)


def test_it_is_valid() -> None:
    """A validator of others accepts the document as OpenAPI 3.1."""
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []


async def test_the_committed_copy_is_current() -> None:
    """docs/openapi.json has exactly what the command line prints."""
    end = await run(*SIDECAR, "openapi", "--public-url", "https://api.example.com")
    assert COMMITTED.read_text("utf-8") == printed(end), "run `make docs`"


async def test_it_is_served_as_printed(deployment: Deployment) -> None:
    """The command line prints the bytes that the REST listener serves for the same public URL."""
    end = await run(*SIDECAR, "openapi", "--public-url", PUBLIC_URL)
    response = await deployment.rest.get("/openapi.json")
    assert response.status_code == 200
    assert response.headers["content-type"] == JSON
    assert response.text == printed(end)


# HTTP


async def test_caches_may_keep_it(deployment: Deployment) -> None:
    """The response is public, has a strong entity tag, and any page may read it."""
    headers = (await deployment.rest.get("/openapi.json")).headers
    assert headers["cache-control"] == "public, max-age=3600"
    assert headers["access-control-allow-origin"] == "*"
    assert headers["etag"].startswith('"')
    assert "pragma" not in headers


@pytest.mark.parametrize("form", ["{0}", "W/{0}", '"other", {0}', "*"])
async def test_a_cache_that_has_it_is_told_so(deployment: Deployment, form: str) -> None:
    """A request with its entity tag gets 304 with the tag and no body; with another one, 200."""
    full = await deployment.rest.get("/openapi.json")
    tag = full.headers["etag"]
    fields = {"If-None-Match": form.format(tag)}
    unchanged = await deployment.rest.get("/openapi.json", headers=fields)
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert unchanged.headers["etag"] == tag
    assert unchanged.headers["cache-control"] == full.headers["cache-control"]
    other = await deployment.rest.get("/openapi.json", headers={"If-None-Match": '"other"'})
    assert (other.status_code, other.content) == (200, full.content)


async def test_head_has_no_body(deployment: Deployment) -> None:
    """HEAD has the header fields of GET, and no body."""
    full = await deployment.rest.get("/openapi.json")
    head = await deployment.rest.head("/openapi.json")
    assert (head.status_code, head.content) == (200, b"")
    for name in ("etag", "content-length", "content-type", "cache-control"):
        assert head.headers[name] == full.headers[name]


async def test_other_methods_are_refused(deployment: Deployment) -> None:
    """The document cannot be written: 405, which names the methods."""
    response = await deployment.rest.put("/openapi.json", content=b"{}")
    assert response.status_code == 405
    assert set(response.headers["allow"].split(", ")) == {"GET", "HEAD"}


# Settings


async def test_it_shows_no_setting_but_the_public_url(tmp_path: Path) -> None:
    """With canaries in the settings that are not public, none is in the document.

    The command line prints the same document, so it shows none either.
    """
    folder = tmp_path / "canary"
    folder.mkdir()
    files = Mount(folder, pair(leaf_of(trustme.CA()))).files("tls")
    secret = folder / "token_url"
    secret.write_text("http://canary.test:4711/canary?canary=canary", "utf-8")
    variables = {"SIDECAR_AUTH_API_TOKEN_URL_FILE": str(secret)}
    flags: dict[str, Any] = {
        "grpc_tls_certificate": str(files.certificate),
        "grpc_tls_key": str(files.key),
        "max_connections": "31337",
        "max_in_flight": "31338",
        "max_client_calls": "31339",
    }
    async with serving("serve", env=variables, public_url=PUBLIC_URL, **flags) as sidecar:
        addresses = [sidecar.addresses[name] for name in ("rest", "grpc", "admin")]
        shown = await run("curl", "-sSi", f"http://{addresses[0]}/openapi.json")
    hidden = ["canary", "127.0.0.1", "localhost", "4711", *flags.values(), *addresses]
    assert [text for text in hidden if text in printed(shown)] == []
    end = await run(*SIDECAR, "openapi", "--public-url", PUBLIC_URL, env=variables)
    assert shown.stdout.endswith("\n" + printed(end))


# The contract


# The operation as the owner's API reference has it: for each member its type, and whether it is
# required. A member may be narrower here: expires_in is an integer, which is a number.
REQUEST: Mapping[str, tuple[str, bool]] = {
    "grant_type": ("string", True),
    "client_id": ("string", False),
    "client_secret": ("string", False),
}
TOKEN: Mapping[str, tuple[str, bool]] = {
    "access_token": ("string", True),
    "token_type": ("string", True),
    "expires_in": ("integer", True),
}
PROBLEM: Mapping[str, tuple[str, bool]] = {
    "type": ("string", True),
    "title": ("string", True),
    "status": ("integer", True),
    "detail": ("string", False),
    "instance": ("string", False),
    "karmoCode": ("string", True),
    "karmoErrors": ("array", False),
}
FIELD_ERROR: Mapping[str, tuple[str, bool]] = {
    "detail": ("string", True),
    "pointer": ("string", True),
}
STATUSES = {"200", "400", "401", "403", "404", "409", "422", "500"}
# What the responses have besides: members for OAuth clients (RFC 6749 section 5.2), and the
# statuses of the listener, of the gateway, and of problems of the auth-api.
OAUTH = {"error": ("string", False), "error_description": ("string", False)}
FURTHER = {
    "405",
    "408",
    "413",
    "414",
    "415",
    "429",
    "431",
    "501",
    "502",
    "503",
    "504",
    "4XX",
    "5XX",
}


def members(schema: Tree) -> Mapping[str, tuple[str, bool]]:
    """Return the members of an object: type without null, and whether it is required."""
    required = schema.get("required", [])
    return {
        name: (_type(member), name in required) for name, member in schema["properties"].items()
    }


def _type(member: Tree) -> str:
    types = member["type"] if isinstance(member["type"], list) else [member["type"]]
    (only,) = [name for name in types if name != "null"]
    return str(only)


def test_there_is_one_operation() -> None:
    """The document describes POST /v1/oauth/token, and nothing else."""
    assert {path: list(item) for path, item in DOCUMENT["paths"].items()} == {PATH: ["post"]}


@pytest.mark.parametrize("media_type", [FORM, JSON])
def test_the_request_is_the_contract(media_type: str) -> None:
    """The body is required, as a form or as JSON, with the members of the contract."""
    assert OPERATION["requestBody"]["required"] is True
    assert list(OPERATION["requestBody"]["content"]) == [FORM, JSON]
    schema = resolve(OPERATION["requestBody"]["content"][media_type]["schema"])
    assert members(schema) == REQUEST
    assert schema["properties"]["grant_type"]["const"] == "client_credentials"


def test_credentials_may_be_basic() -> None:
    """HTTP Basic authentication is one way; the other one has no header."""
    assert OPERATION["security"] == [{"basic": []}, {}]
    scheme = DOCUMENT["components"]["securitySchemes"]["basic"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "basic")


def test_the_token_is_the_contract() -> None:
    """A token is JSON with the three members of the contract."""
    content = OPERATION["responses"]["200"]["content"]
    assert list(content) == [JSON]
    schema = resolve(content[JSON]["schema"])
    assert members(schema) == TOKEN
    assert schema["properties"]["token_type"]["const"] == "Bearer"


def test_the_statuses_are_the_contract() -> None:
    """All statuses of the contract are described, and those that a gateway adds."""
    assert OPERATION["responses"].keys() == STATUSES | FURTHER


@pytest.mark.parametrize("status", sorted((STATUSES | FURTHER) - {"200"}))
def test_a_problem_is_the_contract(status: str) -> None:
    """Every error is a problem with the members of the contract, and with those of OAuth."""
    content = resolve(OPERATION["responses"][status])["content"]
    assert list(content) == [PROBLEM_JSON, JSON]
    for each in content.values():
        schema = resolve(each["schema"])
        assert members(schema) == {**PROBLEM, **OAUTH}
        assert schema["properties"]["type"]["format"] == "uri"
        assert schema["properties"]["karmoCode"]["pattern"] == "^[0-9]{8}$"
        error = resolve(schema["properties"]["karmoErrors"]["items"])
        assert members(error) == FIELD_ERROR


# Header fields that only some responses have, beside those that all have.
HEADERS: Mapping[str, set[str]] = {
    "401": {"WWW-Authenticate"},
    "405": {"Allow"},
    **{status: {"Retry-After"} for status in ("408", "429", "502", "503", "504")},
}


@pytest.mark.parametrize("status", sorted(STATUSES | FURTHER))
def test_header_fields_are_described(status: str) -> None:
    """Each response names its header fields; all but Retry-After are always there."""
    headers = resolve(OPERATION["responses"][status])["headers"]
    always = {"X-Request-Id", "Cache-Control"}
    assert headers.keys() == always | HEADERS.get(status, set())
    required = {name for name, header in headers.items() if resolve(header).get("required")}
    assert required == headers.keys() - {"Retry-After"}


# Examples


def examples(tree: Tree, place: str = "#") -> Iterator[tuple[str, Tree, Tree]]:
    """Yield every example of a Media Type Object: its place, its schema and its value."""
    if isinstance(tree, list):
        for index, item in enumerate(tree):
            yield from examples(item, f"{place}/{index}")
    if not isinstance(tree, dict):
        return
    if "schema" in tree and "example" in tree:
        yield f"{place}/example", tree["schema"], tree["example"]
    if "schema" in tree:
        for name, example in tree.get("examples", {}).items():
            yield f"{place}/examples/{name}", tree["schema"], resolve(example)["value"]
    for name, member in tree.items():
        yield from examples(member, f"{place}/{name}")


EXAMPLES = {place: (schema, value) for place, schema, value in examples(DOCUMENT)}


@pytest.mark.parametrize(("schema", "value"), EXAMPLES.values(), ids=EXAMPLES)
def test_an_example_is_valid(schema: Tree, value: Tree) -> None:
    """Every example is valid by the schema beside it."""
    assert errors_of(schema, value) == []


def test_there_are_examples() -> None:
    """Requests, the token, and every problem in both media types have examples."""
    problems = DOCUMENT["components"]["examples"]
    assert len(EXAMPLES) == 2 * 2 + 1 + 2 * len(problems)
    shown = {json.dumps(value) for _, value in EXAMPLES.values()}
    assert {json.dumps(example["value"]) for example in problems.values()} <= shown
