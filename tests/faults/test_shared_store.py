"""Three replicas share wrong secrets on a real Redis, which then fails in every way."""

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from signal import SIGCONT, SIGSTOP, SIGTERM
from typing import Any

import pytest
import trustme

from tests.faults.conditions import eventually
from tests.faults.namespaces import WITH_DNS, enter
from tests.faults.redis_server import RedisServer, calls_of, empty, fill
from tests.faults.sharing_scene import (
    BOTH,
    IN_FLIGHT,
    KEY,
    LIMIT,
    REPLICAS,
    Load,
    Replica,
    code_of,
    open_scene,
)
from tests.patience import HANG
from tests.scraped import scrape
from tests.sidecar_process import SIDECAR, log_lines, serving

PREFIX = "karmo-sidecar:1:"


@pytest.mark.tools
async def test_guesses_one_after_another(tmp_path: Path) -> None:
    """Of guesses in turn at three replicas, the limit passes and at most one for each replica."""
    redis = RedisServer(tmp_path)
    async with redis.running(), open_scene(redis.url) as scene, redis.client() as client:
        passed = 0
        for number in range(10 * REPLICAS):
            replica = scene.replicas[number % REPLICAS]
            added = await replica.added()
            way = BOTH[number % 2]
            if code_of(await replica.exchange("guesser", f"wrong{number}", way)) == 401:
                passed += 1
                while await replica.added() == added:
                    pass
        assert LIMIT < passed <= LIMIT + REPLICAS
        assert passed == len(scene.guesses)
        keys = [str(key) for key in await client.keys()]
        assert Counter(key.removeprefix(PREFIX).partition(":")[0] for key in keys) == {
            "client_failures": 1,
            "address_failures": 1,
            "all_failures": 1,
            "probe": 1,
        }
        for key in keys:
            assert 0 < await client.pttl(key) <= 60_000
            assert int(str(await client.get(key))) in (0, passed)
        # Another client is not affected, at any replica.
        outcomes = [await replica.exchange("partner") for replica in scene.replicas]
        assert [code_of(outcome) for outcome in outcomes] == [200] * REPLICAS


@pytest.mark.tools
async def test_guesses_at_once(tmp_path: Path) -> None:
    """At most the limit and the calls in flight of each replica pass; then none does."""
    redis = RedisServer(tmp_path)
    async with redis.running(), open_scene(redis.url) as scene:
        numbers = count()

        async def guess(replica: Replica, way: str) -> int:
            return code_of(await replica.exchange("guesser", f"wrong{next(numbers)}", way))

        guesses = [
            guess(replica, way) for _ in range(20) for replica in scene.replicas for way in BOTH
        ]
        codes = Counter(await asyncio.gather(*guesses))
        assert codes.keys() <= {401, 429, 503}
        assert codes[401] == len(scene.guesses) <= REPLICAS * (LIMIT + IN_FLIGHT)
        for replica in scene.replicas:
            assert code_of(await replica.exchange("partner")) == 200

        async def is_settled() -> bool:
            return sum([await replica.added() for replica in scene.replicas]) == 3 * codes[401]

        await eventually(is_settled, within=1)
        before = len(scene.guesses)
        more = [await guess(replica, way) for replica in scene.replicas for way in BOTH * 5]
        assert set(more) == {429}
        assert len(scene.guesses) == before


@pytest.mark.tools
async def test_success_asks_nothing(tmp_path: Path) -> None:
    """Exchanges that succeed send no command to the store."""
    redis = RedisServer(tmp_path)
    async with redis.running(), open_scene(redis.url, 1) as scene, redis.client() as client:
        (replica,) = scene.replicas
        await eventually(lambda: _equals(calls_of(client, "eval"), 1))
        for number in range(100):
            assert code_of(await replica.exchange("partner", way=BOTH[number % 2])) == 200
        assert await calls_of(client, "eval") == 1
        assert code_of(await replica.exchange("guesser", "wrong")) == 401
        await eventually(lambda: _equals(calls_of(client, "eval"), 2))


async def _equals(value: Any, expected: int) -> bool:
    return bool(await value == expected)


@pytest.mark.tools
async def test_a_store_that_comes_after_the_start(tmp_path: Path) -> None:
    """Without a store the replicas start, and share as soon as there is one."""
    redis = RedisServer(tmp_path)
    async with open_scene(redis.url, 2) as scene:
        one, other = scene.replicas
        await one.sidecar.log.find("wrong secrets not shared")
        assert code_of(await one.exchange("partner")) == 200
        async with redis.running():
            for replica in scene.replicas:
                await replica.sidecar.log.find("wrong secrets shared again")
            for number in range(LIMIT):
                assert code_of(await one.exchange("guesser", f"wrong{number}")) == 401
            await eventually(lambda: _equals(one.added(), 3 * LIMIT))
            assert code_of(await other.exchange("guesser", "wrong")) == 401
            await eventually(lambda: _equals(other.added(), 3))
            assert code_of(await other.exchange("guesser", "new")) == 429


@pytest.mark.tools
async def test_a_user_who_may_do_nothing_else(tmp_path: Path) -> None:
    """By TLS, as a user with the permissions of docs/operations.md, wrong secrets are shared."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(
        tmp_path / "redis.pem"
    )
    user = (
        f"user karmo-sidecar on >p@ss ~{PREFIX}* resetchannels -@all +eval +incrby +pttl +pexpire"
    )
    (tmp_path / "users.acl").write_text(f"user default off\n{user}\n")
    pem = str(tmp_path / "redis.pem")
    redis = RedisServer(
        tmp_path,
        *("--aclfile", str(tmp_path / "users.acl"), "--tls-auth-clients", "no"),
        *("--tls-cert-file", pem, "--tls-key-file", pem, "--tls-ca-cert-file", pem),
        tls=True,
    )
    url = f"rediss://karmo-sidecar:p%40ss@localhost:{redis.port}"
    trusted = {"SSL_CERT_FILE": str(tmp_path / "ca.pem")}
    async with redis.running(), open_scene(url, 1, env=trusted) as scene:
        (replica,) = scene.replicas
        assert code_of(await replica.exchange("guesser", "wrong")) == 401
        await eventually(lambda: _equals(replica.added(), 3))
        assert not await replica.is_failing()
    wrong = url.replace("p%40ss", "canary")
    async with redis.running(), open_scene(wrong, 1, env=trusted) as scene:
        (replica,) = scene.replicas
        assert '"fault": "denied"' in await replica.sidecar.log.find("not shared")
        assert code_of(await replica.exchange("partner")) == 200
        replica.sidecar.signal(SIGTERM)
        assert "canary" not in (await replica.sidecar.ended()).stdout


# The store fails under load


@pytest.mark.soak
async def test_a_store_that_is_stopped_full_killed_and_back(tmp_path: Path) -> None:
    """No call is lost and none waits for the store; limits are local until it is back."""
    redis = RedisServer(tmp_path)
    async with open_scene(redis.url) as scene, AsyncExitStack() as stack:
        load, clients = Load(scene), map("guesser{}".format, count())

        async def guess_everywhere() -> None:
            """Let a new client guess once at each replica."""
            client = next(clients)
            for replica, way in zip(scene.replicas, ("form", "grpc", "form"), strict=True):
                assert code_of(await replica.exchange(client, "wrong", way)) == 401

        async def outage(phase: str) -> None:
            """Guess until all replicas have noticed, and then wait for honest calls."""
            load.phase = phase

            async def is_noticed() -> bool:
                await guess_everywhere()
                return all([await replica.is_failing() for replica in scene.replicas])

            await eventually(is_noticed, within=HANG)
            client = next(clients)
            for replica in scene.replicas:  # limits are local
                codes = [
                    code_of(await replica.exchange(client, f"wrong{number}"))
                    for number in range(LIMIT + 1)
                ]
                assert codes == [401] * LIMIT + [429]
            await load.during(phase)

        async def recovery(phase: str) -> None:
            """Wait until all replicas have noticed that the store is back."""
            load.phase = phase

            async def is_noticed() -> bool:
                return all([await replica.works() for replica in scene.replicas])

            await eventually(is_noticed, within=HANG)
            await guess_everywhere()
            await load.during(phase)

        await stack.enter_async_context(load.running())
        async with redis.running() as server, redis.client() as client:
            await recovery("before")
            server.signal(SIGSTOP)
            await outage("stopped")
            server.signal(SIGCONT)
            await recovery("continued")
            await fill(client)
            await outage("full")
            await empty(client)
            await recovery("emptied")
        await outage("killed")
        async with redis.running():
            await recovery("back")
            pages = [await scrape(replica.sidecar.addresses["admin"]) for replica in scene.replicas]
        assert load.codes.keys() == {200}
        # A call that waited for the store would take half a second. A busy machine may cause one.
        late = [seconds > 0.4 for phase in load.seconds.values() for seconds in phase]
        assert sum(late) < 0.01 * len(late), load.summary()
        for page in pages:
            assert page.value("karmo_sidecar_shared_counts_failing") == 0
            assert page.value("karmo_sidecar_shared_counts_total", outcome="failed") > 0
        print(f"{load.codes[200]} calls; ms by phase: {load.summary()}")
    for replica in scene.replicas:
        lines = log_lines((await replica.sidecar.ended()).stdout)
        told = [line for line in lines if "secrets" in line["message"]]
        faults = [line["fault"] for line in told if "fault" in line]
        # Of each fault the first failure is reported at once, the later ones every 10 minutes.
        assert len(set(faults)) == len(faults) > 0
        texts = Counter(line["message"] for line in told)
        assert 1 <= texts["wrong secrets shared again"] <= len(faults)


SILENT_DNS = (
    WITH_DNS
    + """
"$1" -c "import os, socket, time
s = socket.socket(type=socket.SOCK_DGRAM)
s.bind(('127.0.0.1', 53))
parent = os.getppid()
print('bound', flush=True)
while os.getppid() == parent: time.sleep(0.2)" >"$2/silent" 2>&1 &
until grep -q bound "$2/silent"; do sleep 0.05; done
shift 2
"""
)


@pytest.mark.tools
async def test_the_end_does_not_wait_for_dns(tmp_path: Path) -> None:
    """A look-up of the store that hangs for minutes does not delay the end of the process."""
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:5\n")
    (tmp_path / "hosts").write_text("")
    prefix = await enter(SILENT_DNS, tmp_path, SIDECAR[0], tmp_path)
    async with serving(
        "serve",
        program=(*prefix, *SIDECAR),
        auth_api_token_url="http://127.0.0.1:9/",
        shared_limits_url="redis://redis.test",
        log_client_key=KEY,
    ) as sidecar:
        assert '"fault": "dns"' in await sidecar.log.find("wrong secrets not shared")
        start = time.monotonic()
        sidecar.signal(SIGTERM)
        await sidecar.ended()
        assert time.monotonic() - start < 20
