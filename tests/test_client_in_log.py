"""Tests of `client` in the access line: who called, without the identifier of the client."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sidecar.exchange.client_hash import ClientHash
from sidecar.secret import Secret
from tests.sidecar_process import SIDECAR, Ended, as_flags, log_lines, run, serving
from tests.upstream import Upstream, answer
from tests.ways import Sent, basic, open_ways

# For tests whose processes reach lines that nothing else does.
measured_once = pytest.mark.usefixtures("measured_once")

KEY = "0123456789abcdefghijklmnopqrstuv"
VARIABLE = {"SIDECAR_LOG_CLIENT_KEY": KEY}
CLIENT = "canary-client"
HASH = ClientHash(Secret(KEY)).of(CLIENT)
GRANT = {"grant_type": "client_credentials"}
BY_BASIC = Sent(fields=GRANT, authorization=(basic(CLIENT),))
IN_BODY = Sent(fields=GRANT | {"client_id": CLIENT, "client_secret": "secret"})
DENIED = answer(401, {"error": "invalid_client"})
BOTH = ("form", "json", "grpc")
# Each request, and the hash in its line.
SENT: Mapping[str, tuple[Sent, str | None]] = {
    "by Basic": (BY_BASIC, HASH),
    "in the body": (IN_BODY, HASH),
    "of another client": (
        Sent(fields=GRANT, authorization=(basic("another"),)),
        ClientHash(Secret(KEY)).of("another"),
    ),
    "without a secret": (Sent(fields=GRANT | {"client_id": CLIENT}), HASH),
    "of a wrong grant type": (
        Sent(fields={"grant_type": "password"}, authorization=(basic(CLIENT),)),
        HASH,
    ),
    "with two clients": (
        Sent(fields=GRANT | {"client_id": "another"}, authorization=(basic(CLIENT),)),
        HASH,
    ),
    "with a bad header": (
        Sent(fields=GRANT | {"client_id": CLIENT}, authorization=("Basic %",)),
        HASH,
    ),
    "with an empty client in the header": (Sent(fields=GRANT, authorization=(basic(""),)), None),
    "of nobody": (Sent(fields=GRANT), None),
}


async def clients_of(sidecar: Any, *, reason: str | None = None) -> list[str | None]:
    """Return `client` of each access line, or of those with `reason`."""
    text = await sidecar.log.all()
    assert CLIENT not in text
    assert KEY not in text
    return [
        line.get("client")
        for line in log_lines(text)
        if line["message"] == "call" and reason in (None, line.get("reason"))
    ]


async def test_each_call_names_its_client() -> None:
    """Every call has the hash of the client that it names, by each protocol and encoding.

    The key alone decides the hash, so all replicas with one key write the same.
    """
    async with (
        Upstream() as upstream,
        serving("serve", env=VARIABLE, auth_api_token_url=upstream.url) as sidecar,
        open_ways(sidecar.addresses) as ways,
    ):
        for sent, _ in SENT.values():
            for way in BOTH:
                await ways[way](sent)
    expected = [hashed for _, hashed in SENT.values() for _ in BOTH]
    assert await clients_of(sidecar) == expected


async def test_refused_calls_name_their_client() -> None:
    """A wrong secret, and a call that the throttle refuses after it, have the hash too."""
    async with (
        Upstream() as upstream,
        serving(
            "serve",
            env=VARIABLE,
            auth_api_token_url=upstream.url,
            max_client_failures="1",
        ) as sidecar,
        open_ways(sidecar.addresses) as ways,
    ):
        upstream.reply = DENIED
        for way in ("form", "json", "grpc"):
            await ways[way](BY_BASIC)
    assert await clients_of(sidecar, reason="INVALID_CLIENT") == [HASH]
    assert await clients_of(sidecar, reason="TOO_MANY_ATTEMPTS") == [HASH, HASH]


async def test_without_a_key_each_replica_has_hashes_of_its_own() -> None:
    """Without a key two replicas write different hashes of one client, each always the same."""
    async with (
        Upstream() as upstream,
        serving("serve", auth_api_token_url=upstream.url) as one,
        serving("serve", auth_api_token_url=upstream.url) as other,
    ):
        for sidecar in (one, other):
            async with open_ways(sidecar.addresses) as ways:
                await ways["form"](BY_BASIC)
                await ways["grpc"](IN_BODY)
    of_one, of_other = [await clients_of(sidecar) for sidecar in (one, other)]
    assert of_one == [of_one[0]] * 2
    assert of_other == [of_other[0]] * 2
    assert len({of_one[0], of_other[0], HASH}) == 3


# hash-client


async def hash_client(*arguments: str, env: Mapping[str, str] | None = None) -> Ended:
    """Run the command with `arguments`."""
    return await run(*SIDECAR, "hash-client", *arguments, env=env)


async def test_hash_client(tmp_path: Path) -> None:
    """The command prints the hash of the log, whatever source the key is from."""
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    for flags, env in (
        ((), VARIABLE),
        ((), {"SIDECAR_LOG_CLIENT_KEY_FILE": str(file)}),
        (as_flags({"log_client_key": KEY}), {}),
    ):
        end = await hash_client(*flags, CLIENT, env=env)
        assert end == Ended(status=0, stdout=f"{HASH}\n", stderr="")


@measured_once
async def test_hash_client_of_standard_input() -> None:
    """Without an argument the client is a line of standard input, so that no history keeps it."""
    command = " ".join((*SIDECAR, "hash-client"))
    for line in (CLIENT, f"{CLIENT}\\r\\n"):
        end = await run("bash", "-c", f"printf '{line}' | {command}", env=VARIABLE)
        assert end == Ended(status=0, stdout=f"{HASH}\n", stderr="")


@measured_once
async def test_hash_client_needs_the_key() -> None:
    """Without the key the command is refused, because its hash would be in no log."""
    end = await hash_client(CLIENT)
    assert (end.status, end.stdout) == (78, "")
    assert end.stderr == (
        "karmo-sidecar: SIDECAR_LOG_CLIENT_KEY: must be set, to the key of the sidecar whose log "
        "is searched: without it each process has a random key\n"
    )


@measured_once
async def test_hash_client_needs_a_client() -> None:
    """An empty client is refused: no line has its hash."""
    for arguments in ((), ("",)):
        end = await hash_client(*arguments, env=VARIABLE)
        assert (end.status, end.stdout) == (78, "")
        assert end.stderr == "karmo-sidecar: the client_id must not be empty\n"


# Calls that match nothing


async def test_what_matches_nothing_has_a_line() -> None:
    """A 404 has its method and an unmatched route, and none of its path."""
    async with (
        Upstream() as upstream,
        serving("serve", auth_api_token_url=upstream.url) as sidecar,
    ):
        base = f"http://{sidecar.addresses['rest']}"
        for method in ("GET", "CANARY"):
            await run("curl", "-sX", method, f"{base}/canary")
    lines = [line for line in log_lines(await sidecar.log.all()) if line["message"] == "call"]
    assert [(line["method"], line["route"], line["status"]) for line in lines] == [
        ("GET", "unmatched", 404),
        ("other", "unmatched", 404),
    ]
    assert "canary" not in json.dumps(lines).lower()
