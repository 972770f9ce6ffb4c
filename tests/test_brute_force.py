"""Tests of brute force (row R18): both protocols stop guesses, and no other clients."""

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import httpx2
import pytest
import pytest_asyncio
from google.rpc.error_details_pb2 import RetryInfo
from grpc import StatusCode
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest
from karmo.auth.v1.token_service_pb2_grpc import TokenServiceStub

from sidecar.problems import find_detail
from tests.recorded import recorded
from tests.upstream import TOKEN, Hold, answer
from tests.ways import Deployment, Outcome, Sent, basic, open_deployment, outcome_of

pytestmark = pytest.mark.unmeasured

SECRET = "the-right-secret"
PER_CLIENT, PER_ADDRESS = 5, 12
DENIED = answer(401, {"error": "invalid_client"})


@asynccontextmanager
async def guarded(trusted_proxies: int = 1, **flags: str) -> AsyncIterator[Deployment]:
    """Run a sidecar with small limits and an auth-api that knows one secret."""

    async def judge(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_right = SECRET.encode() in deployment.upstream.requests[-1]
        writer.write(answer(200, TOKEN) if is_right else DENIED)
        await writer.drain()

    async with open_deployment(
        max_client_failures=str(PER_CLIENT),
        max_address_failures=str(PER_ADDRESS),
        trusted_proxies=str(trusted_proxies),
        **flags,
    ) as deployment:
        deployment.upstream.script = judge
        yield deployment


@pytest_asyncio.fixture(scope="module", name="_guarded")
async def _open_deployment() -> AsyncIterator[Deployment]:
    async with guarded() as deployment:
        yield deployment


@pytest.fixture(name="deployment")
def _deployment_as_new(_guarded: Deployment) -> Deployment:
    """Return the shared sidecar with its upstream reset."""
    _guarded.upstream.requests.clear()
    return _guarded


_ADDRESSES = (f"198.51.100.{number}" for number in range(256))


@pytest.fixture(name="guesser")
def _guesser() -> str:
    """Return an address that no test has called from."""
    return next(_ADDRESSES)


@pytest.fixture(name="other")
def _other() -> str:
    """Return another such address."""
    return next(_ADDRESSES)


def fields(client: str, secret: str) -> dict[str, str]:
    """Return the fields of a token request."""
    return {"grant_type": "client_credentials", "client_id": client, "client_secret": secret}


_INVENTED = itertools.count()


async def by_rest(
    deployment: Deployment, address: str, client: str = "partner", secret: str = SECRET
) -> httpx2.Response:
    """Exchange over REST, as if from `address`."""
    # The first entry is forged by the client, and differs each time.
    headers = {"X-Forwarded-For": f"203.0.113.{next(_INVENTED) % 256}, {address}"}
    return await deployment.rest.post(
        "/v1/oauth/token", data=fields(client, secret), headers=headers
    )


async def by_grpc(
    deployment: Deployment, address: str, client: str = "partner", secret: str = SECRET
) -> Outcome:
    """Exchange over gRPC, as if from `address`."""
    stub = TokenServiceStub(deployment.channels["grpc"])
    metadata = (("x-forwarded-for", address),)
    request = ExchangeTokenRequest(**fields(client, secret))
    try:
        response = await stub.ExchangeToken(request, metadata=metadata, timeout=20)
    except grpc.aio.AioRpcError as error:
        return outcome_of(error)
    return Outcome(token={"access_token": response.access_token})


async def test_many_secrets_of_one_client(deployment: Deployment, guesser: str, other: str) -> None:
    """The auth-api receives 5 of 200 wrong secrets; other clients go on; both protocols agree."""
    statuses: Counter[int] = Counter()
    for number in range(200):
        statuses[(await by_rest(deployment, guesser, secret=f"wrong{number}")).status_code] += 1
    assert statuses == {401: PER_CLIENT, 429: 200 - PER_CLIENT}
    assert len(deployment.upstream.requests) == PER_CLIENT
    refused = await by_rest(deployment, guesser)
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    problem = refused.json()
    assert problem["karmoCode"] == "42920001"
    assert problem["detail"] == (
        "There were 5 wrong secrets, or requests that were given up, in a minute for this client "
        "from this address. "
        "Check the secret, and try again later."
    )
    assert "www-authenticate" not in refused.headers
    outcome = await by_grpc(deployment, guesser)
    assert outcome.code is StatusCode.RESOURCE_EXHAUSTED
    assert outcome.problem
    assert outcome.problem["detail"] == problem["detail"]
    assert outcome.details
    retry = find_detail(outcome.details, RetryInfo)
    assert retry
    assert 1 <= retry.retry_delay.seconds <= 60
    assert (await by_rest(deployment, guesser, "another")).status_code == 200
    assert (await by_rest(deployment, other)).status_code == 200
    assert (await by_grpc(deployment, other)).token


async def test_many_clients_from_one_address(
    deployment: Deployment, guesser: str, other: str
) -> None:
    """Guesses at many clients from one address are limited by address, over both protocols."""
    for number in range(PER_ADDRESS // 2):
        assert (await by_rest(deployment, guesser, f"a{number}", "wrong")).status_code == 401
        outcome = await by_grpc(deployment, guesser, f"b{number}", "wrong")
        assert outcome.code is StatusCode.UNAUTHENTICATED
    seen = len(deployment.upstream.requests)
    statuses = {
        (await by_rest(deployment, guesser, f"c{number}", "wrong")).status_code
        for number in range(20)
    }
    assert statuses == {429}
    assert len(deployment.upstream.requests) == seen == PER_ADDRESS
    assert (await by_rest(deployment, other)).status_code == 200


async def test_guesses_at_once(guesser: str) -> None:
    """Of a burst of guesses at most the limit plus the calls in flight get through."""
    async with guarded(max_in_flight="8") as deployment:
        answers = await asyncio.gather(
            *(by_rest(deployment, guesser, secret=f"wrong{number}") for number in range(50))
        )
        counts = Counter(response.status_code for response in answers)
        assert counts[401] <= PER_CLIENT + 8
        assert counts[401] + counts[429] + counts[503] == 50
        assert len(deployment.upstream.requests) == counts[401]


async def test_right_secrets_at_once(deployment: Deployment, other: str) -> None:
    """A client may have more calls in flight than the limit of wrong secrets."""
    answers = await asyncio.gather(*(by_rest(deployment, other) for _ in range(4 * PER_CLIENT)))
    assert {response.status_code for response in answers} == {200}


async def test_a_stranger_locks_nobody_out(guesser: str, other: str) -> None:
    """Wrong secrets from an address that cancels each call do not lock out the client elsewhere."""
    async with guarded(max_client_calls="20") as deployment:
        judge, hold = deployment.upstream.script, Hold()
        deployment.upstream.script = hold.script
        for number in range(20):
            calling = asyncio.create_task(by_rest(deployment, guesser, secret=f"wrong{number}"))
            await hold.wait_for(1)
            calling.cancel()
            await asyncio.gather(calling, return_exceptions=True)
        hold.release.set()
        deployment.upstream.script = judge
        assert (await by_rest(deployment, guesser)).status_code == 429
        assert (await by_rest(deployment, other)).status_code == 200
        assert (await by_grpc(deployment, other)).token


async def test_a_client_that_does_not_know_how_to_send_its_secret(deployment: Deployment) -> None:
    """A wrong secret by Basic and then in the body, as Go's library sends it, is one guess."""
    for number in range(PER_CLIENT):
        outcome = await deployment.ways["form"](
            Sent(
                fields={"grant_type": "client_credentials"},
                authorization=(basic("partner", f"wrong{number}"),),
            )
        )
        assert outcome.status == 401
        outcome = await deployment.ways["form"](Sent(fields=fields("partner", f"wrong{number}")))
        assert outcome.status == 401
    outcome = await deployment.ways["form"](Sent(fields=fields("partner", "wrong")))
    assert outcome.status == 429


async def test_success_is_never_limited(deployment: Deployment, guesser: str) -> None:
    """A client that knows its secret is not limited."""
    statuses = {(await by_rest(deployment, guesser)).status_code for _ in range(PER_ADDRESS * 3)}
    assert statuses == {200}


async def test_a_header_of_the_client_changes_nothing() -> None:
    """Without trusted proxies X-Forwarded-For is ignored, and the address of the socket counts."""
    async with guarded(trusted_proxies=0) as deployment:
        statuses = [
            (await by_rest(deployment, f"198.51.100.{number}", secret=f"{number}")).status_code
            for number in range(PER_CLIENT + 1)
        ]
        assert statuses == [401] * PER_CLIENT + [429]


async def test_the_line_tells_who_it_was(deployment: Deployment, guesser: str, other: str) -> None:
    """The access line has the client's address from a proxy, and no part of a secret."""
    with recorded() as log:
        response = await by_rest(deployment, guesser, secret="canary-secret")
        line = await log.access_line(response.headers["x-request-id"])
        await by_grpc(deployment, other, secret="canary-secret")
        await log.wait_for(2)
    assert line["client_address"] == guesser
    (by_other,) = (entry for entry in log.entries if entry.get("protocol") == "grpc")
    assert by_other["client_address"] == other
    assert line["client"] == by_other["client"] != guesser
    assert "canary" not in json.dumps(log.entries)
