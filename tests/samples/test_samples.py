"""Tests of the code samples for partners: each runs as shown, against the running sidecar."""

import base64
import json
import re
import uuid
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path
from urllib.parse import parse_qs, quote_plus, urlsplit

import httpx2
import pytest
import pytest_asyncio

from tests.samples.programs import HERE, RUNTIMES, URL, Program, text_of
from tests.sidecar_process import ROOT, Ended, Sidecar, serving
from tests.upstream import TOKEN, Upstream, answer

CLIENT_ID, SECRET = "demo-partner", "demo-secret"
# All characters that RFC 6749 allows in both (appendix A.1 and A.2). The space is not the first
# one, because the library for Java removes spaces around an identifier.
EVERY_CHARACTER = "".join(map(chr, (*range(0x21, 0x40), 0x20, *range(0x40, 0x7F))))
# The file that pins the version which a sample names, and how the file has it.
PINNED = {
    "token.mjs": ("node/package.json", r'"openid-client": "([\d.]+)"'),
    "token.go": ("go/go.mod", r"golang.org/x/oauth2 (v[\d.]+)"),
    "Token.java": ("java/pom.xml", r"<version>(11[\d.]+)</version>"),
}

every_sample = pytest.mark.parametrize("name", RUNTIMES)


# The others need what pip does not install, and take longer.
QUICK = {"token.sh", "get_token.py"}


@pytest.fixture(
    name="program",
    params=[
        pytest.param(name, marks=() if name in QUICK else pytest.mark.tools) for name in RUNTIMES
    ],
)
def _program(request: pytest.FixtureRequest, tmp_path: Path) -> Program:
    """Return each sample in turn."""
    return Program(name=request.param, folder=tmp_path)


@pytest_asyncio.fixture(scope="module", name="sidecar")
async def _sidecar() -> AsyncIterator[Sidecar]:
    async with serving("dev") as sidecar:
        yield sidecar


@pytest_asyncio.fixture(scope="module", name="shared_upstream")
async def _shared_upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as upstream:
        yield upstream


@pytest_asyncio.fixture(scope="module", name="front")
async def _front(shared_upstream: Upstream) -> AsyncIterator[Sidecar]:
    # With "post" the auth-api receives the credentials as the sidecar read them.
    async with serving(
        "serve", auth_api_token_url=shared_upstream.url, auth_api_client_authentication="post"
    ) as front:
        yield front


@pytest.fixture(name="upstream")
def _upstream(shared_upstream: Upstream) -> Upstream:
    """Return the scripted auth-api of `front`, reset."""
    shared_upstream.reset()
    return shared_upstream


async def statuses_since(sidecar: Sidecar, start: int) -> list[int]:
    """Return the statuses of the REST requests in the access log after line `start`."""
    request_id = str(uuid.uuid4())
    # When the line of this request is there, those of all requests before it are.
    async with httpx2.AsyncClient(trust_env=False) as client:
        url = f"http://{sidecar.addresses['rest']}/problems"
        await client.get(url, headers={"X-Request-Id": request_id})
    await sidecar.log.find(request_id)
    lines = [json.loads(line) for line in sidecar.log.seen[start:] if request_id not in line]
    return [line["status"] for line in lines if line.get("protocol") == "rest"]


def check_success(program: Program, end: Ended) -> None:
    """Check that a sample printed what it got, and only the one for curl the token itself."""
    assert end.status == 0, end.stderr
    if program.name == "token.sh":
        token = json.loads(end.stdout)
        assert (token["token_type"], token["expires_in"]) == ("Bearer", 3600)
        return
    assert re.fullmatch(r"(bearer token, valid for 3600 s\n){1,2}", end.stdout.lower())


def check_refusal(end: Ended, *shown: str) -> None:
    """Check that a sample failed, and wrote the parts of the problem to stderr alone."""
    assert end.status != 0
    assert end.stdout == ""
    assert [part for part in shown if part not in end.stderr] == []
    assert "Traceback" not in end.stderr


async def test_a_sample_gets_one_token(program: Program, sidecar: Sidecar) -> None:
    """Each sample prints the token's type and lifetime, after exactly one request."""
    start = len(sidecar.log.seen)
    end = await program.run(sidecar.addresses["rest"], CLIENT_ID, SECRET)
    check_success(program, end)
    assert await statuses_since(sidecar, start) == [200]


async def test_a_sample_tells_why_it_is_refused(program: Program, sidecar: Sidecar) -> None:
    """For a wrong secret each sample sends one request, shows the problem, and no secret."""
    wrong = "wrong+" + SECRET
    start = len(sidecar.log.seen)
    end = await program.run(sidecar.addresses["rest"], CLIENT_ID, wrong)
    check_refusal(end, "invalid_client", "40120001", "its secret is wrong")
    assert await statuses_since(sidecar, start) == [401]
    encoded = base64.b64encode(f"{CLIENT_ID}:{quote_plus(wrong)}".encode()).decode()
    assert [secret for secret in (wrong, quote_plus(wrong), encoded) if secret in end.stderr] == []


async def test_a_sample_tells_why_a_client_is_forbidden(program: Program, sidecar: Sidecar) -> None:
    """A refusal without a challenge (403) is shown by the same members of the problem."""
    end = await program.run(sidecar.addresses["rest"], "disabled-partner", "disabled-secret")
    check_refusal(end, "access_denied", "40320001", "The client is disabled")


async def test_a_sample_tells_that_the_service_is_unavailable(
    program: Program, front: Sidecar, upstream: Upstream
) -> None:
    """A failure that is not the client's is shown by the same members of the problem."""
    upstream.reply = answer(503)
    end = await program.run(front.addresses["rest"], CLIENT_ID, SECRET)
    check_refusal(end, "temporarily_unavailable", "50330001", "The auth-api")


async def test_a_sample_fails_without_a_problem(program: Program, upstream: Upstream) -> None:
    """For an HTML page of a gateway each sample fails, and shows the HTTP status."""
    upstream.reply = answer(502, b"<html>", "text/html")
    end = await program.run(urlsplit(upstream.url).netloc, CLIENT_ID, SECRET)
    assert end.status != 0
    assert end.stdout == ""
    assert "502" in end.stderr
    assert SECRET not in end.stderr


async def test_a_sample_sends_every_character(
    program: Program, front: Sidecar, upstream: Upstream
) -> None:
    """An identifier and a secret of all permitted characters arrive at the auth-api unchanged."""
    end = await program.run(front.addresses["rest"], EVERY_CHARACTER, EVERY_CHARACTER)
    check_success(program, end)
    (request,) = upstream.requests
    sent = parse_qs(request.decode().partition("\r\n\r\n")[2])
    assert (sent["client_id"], sent["client_secret"]) == ([EVERY_CHARACTER], [EVERY_CHARACTER])


async def test_a_sample_renews_a_token_before_it_expires(
    program: Program, front: Sidecar, upstream: Upstream
) -> None:
    """A token with five seconds left is not used again: the second use requests the next one."""
    upstream.reply = answer(200, {**TOKEN, "expires_in": 5})
    end = await program.run(front.addresses["rest"], CLIENT_ID, SECRET)
    assert end.status == 0, end.stderr
    assert len(upstream.requests) == (1 if program.name == "token.sh" else 2)


def test_every_sample_is_tested() -> None:
    """The samples are package data, and none is without its tests."""
    packaged = {path.name for path in files("sidecar.rest").joinpath("samples").iterdir()}
    assert packaged - {"__pycache__"} == RUNTIMES.keys()


@every_sample
def test_a_sample_fits_the_page(name: str) -> None:
    """A sample has the URL exactly once, begins with how to install and run it, and is short."""
    source = text_of(name)
    assert source.count(URL) == source.count("/v1/oauth/token") == 1
    head = "\n".join(source.splitlines()[:2])
    assert re.search(r"(#|//) (Install: |Needs curl ).+ Tested with ", head)
    assert "Run: " in "\n".join(source.splitlines()[:3])
    assert name in "\n".join(source.splitlines()[:3])
    code = [line for line in source.splitlines() if line.strip()]
    assert len(code) <= 42
    assert max(map(len, code)) <= 100


def test_the_page_has_the_function_of_the_sample() -> None:
    """docs/rest-api.md reads the errors of openid-client as the tested sample does."""
    function = re.compile(r"^async function problemOf.*?^}\n", re.DOTALL | re.MULTILINE)
    (shown,) = function.findall((ROOT / "docs/rest-api.md").read_text("utf-8"))
    assert function.findall(text_of("token.mjs")) == [shown]


@pytest.mark.parametrize("name", PINNED)
def test_a_sample_names_the_tested_version(name: str) -> None:
    """The version in the first line of a sample is the one that these tests install."""
    path, pattern = PINNED[name]
    (version,) = re.findall(pattern, (HERE / path).read_text("utf-8"))
    assert version in text_of(name).partition("\n")[0]
