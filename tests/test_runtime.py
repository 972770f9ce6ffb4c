"""Tests of the runtime: the start of the process, its failures, and its shutdown."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import httpx2
import pytest
import pytest_asyncio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from sidecar import runtime
from sidecar.process.sockets import Addresses
from sidecar.settings.sources import load
from tests.patience import PATIENT
from tests.sidecar_process import LISTENERS, SIDECAR, Ended, Sidecar, free, log_lines, run, serving
from tests.upstream import TOKEN, Hold, Upstream
from tests.ways import Deployment, Outcome, Sent, Way, basic, open_ways

# For tests whose processes reach lines that nothing else does.
measured_once = pytest.mark.usefixtures("measured_once")

TOKEN_URL = "http://127.0.0.1:9/v1/oauth/token"
# The setting of each listener, by the name of the address.
SETTINGS = dict(zip(("rest", "grpc", "admin", "auth_api"), LISTENERS, strict=True))
FREE_PORTS = dict.fromkeys(LISTENERS, "127.0.0.1:0") | dict(PATIENT)
GRANT = {"grant_type": "client_credentials"}
SENT = Sent(fields=GRANT, authorization=(basic(),))
DEMO = Sent(fields=GRANT, authorization=(basic("demo-partner", "demo-secret"),))
HANG = 30.0  # seconds; every step is far shorter
SERVICES = ("", "karmo.auth.v1.TokenService")
# A drain that lasts to its end fails the test, which does not wait as long.
UNHURRIED: Mapping[str, Any] = {"drain_timeout": "400s", "termination_grace": "620s"}
SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


@dataclass(frozen=True, slots=True, kw_only=True)
class Callers:
    """Clients of each listener of one sidecar."""

    ways: Mapping[str, Way]
    http: httpx2.AsyncClient
    health: Any  # a HealthStub, which has no types
    addresses: Mapping[str, str]

    async def probe(self, path: str) -> int:
        """Return the status of a probe."""
        return (await self.http.get(f"http://{self.addresses['admin']}{path}")).status_code


@asynccontextmanager
async def callers(addresses: Mapping[str, str]) -> AsyncIterator[Callers]:
    """Open clients of the listeners at `addresses`."""
    async with (
        open_ways(addresses) as ways,
        httpx2.AsyncClient(timeout=HANG, trust_env=False) as http,
        grpc.aio.insecure_channel(addresses["grpc"]) as channel,
    ):
        yield Callers(ways=ways, http=http, health=HealthStub(channel), addresses=addresses)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A sidecar in its own process, its clients, and an upstream that holds its answers."""

    sidecar: Sidecar
    callers: Callers
    hold: Hold
    calls: asyncio.TaskGroup

    def call(self, way: str) -> asyncio.Task[Outcome]:
        """Begin an exchange, which the upstream holds."""

        async def send() -> Outcome:
            return await self.callers.ways[way](SENT)

        return self.calls.create_task(send())

    async def stop(self) -> None:
        """Send SIGTERM, and wait until the shutdown begins."""
        self.sidecar.signal(signal.SIGTERM)
        await self.sidecar.log.find('"message": "stopping"')


@asynccontextmanager
async def open_scene(lame_duck: str = "0s") -> AsyncIterator[Scene]:
    """Run a scene; the sidecar must end with status 0."""
    async with Upstream() as upstream:
        hold = Hold()
        upstream.script = hold.script
        async with (
            serving(
                "serve",
                auth_api_token_url=upstream.url,
                lame_duck=lame_duck,
                **UNHURRIED,
            ) as sidecar,
            callers(sidecar.addresses) as opened,
            asyncio.TaskGroup() as calls,
        ):
            try:
                yield Scene(sidecar=sidecar, callers=opened, hold=hold, calls=calls)
            finally:
                hold.release.set()


@pytest_asyncio.fixture(scope="module", name="embedded")
async def _run_with_auth_api() -> AsyncIterator[Addresses]:
    async with runtime.running(load({}, FREE_PORTS), embeds_auth_api=True) as addresses:
        yield addresses


@pytest.mark.parametrize("way", ["form", "grpc"])
async def test_calls_reach_the_embedded_auth_api(embedded: Addresses, way: str) -> None:
    """Both protocols exchange a token as soon as the context is entered."""
    async with open_ways(embedded.by_name()) as ways:
        outcome = await ways[way](DEMO)
    assert outcome.token
    assert outcome.token["expires_in"] == 3600


async def test_every_other_listener_answers(embedded: Addresses) -> None:
    """The probes, the health of each service and the embedded auth-api answer."""
    async with callers(embedded.by_name()) as opened:
        assert [await opened.probe(path) for path in ("/livez", "/readyz")] == [200, 200]
        for name in SERVICES:
            health = await opened.health.Check(HealthCheckRequest(service=name), timeout=HANG)
            assert health.status == HealthCheckResponse.SERVING
        jwks = await opened.http.get(f"http://{embedded.auth_api}/.well-known/jwks.json")
        assert len(jwks.json()["keys"]) == 1


async def test_problem_types_lead_to_the_rest_listener(embedded: Addresses) -> None:
    """Without a public URL, the type of a problem is the URL of its page."""
    async with callers(embedded.by_name()) as opened:
        problem = (await opened.ways["form"](Sent())).problem
        assert problem
        assert problem["type"].startswith(f"http://{embedded.rest}/problems/")
        assert (await opened.http.get(problem["type"])).status_code == 200


async def test_addresses_are_given_back() -> None:
    """After the end of a sidecar another one can bind the same addresses."""
    flags = FREE_PORTS | {"auth_api_token_url": TOKEN_URL}
    async with runtime.running(load({}, flags), embeds_auth_api=False) as first:
        addresses = first.by_name()
    taken = {SETTINGS[name]: addresses[name] for name in ("rest", "grpc", "admin")}
    async with runtime.running(load({}, flags | taken), embeds_auth_api=False) as second:
        assert second == first


async def test_calls_in_flight_finish() -> None:
    """After SIGTERM the calls in flight succeed, on both protocols."""
    async with open_scene() as scene:
        calls = [scene.call("form"), scene.call("grpc")]
        await scene.hold.wait_for(2)
        await scene.stop()
        scene.hold.release.set()
        assert [(await call).token for call in calls] == [TOKEN, TOKEN]
        end = await scene.sidecar.ended()
        assert (end.status, end.stderr) == (0, "")
        assert [line["message"] for line in log_lines(end.stdout)][-1] == "stopped"


async def test_it_says_that_it_is_stopping() -> None:
    """While a call in flight delays the end, both protocols report not ready."""
    async with open_scene(lame_duck="200s") as scene:
        watch = scene.callers.health.Watch(HealthCheckRequest(service=SERVICES[1]))
        assert await read(watch) == HealthCheckResponse.SERVING
        call = scene.call("form")
        await scene.hold.wait_for(1)
        await scene.stop()
        assert await read(watch) == HealthCheckResponse.NOT_SERVING
        assert [await scene.callers.probe(path) for path in ("/livez", "/readyz")] == [200, 503]
        watch.cancel()
        assert not call.done()
        scene.sidecar.signal(signal.SIGTERM)  # ends the lame duck
        scene.hold.release.set()
        assert (await call).token == TOKEN


async def read(watch: Any) -> int:
    """Return the next status of a health watch."""
    async with asyncio.timeout(HANG):
        response: HealthCheckResponse = await watch.read()
    return response.status


async def test_who_watches_the_health_does_not_delay_the_end() -> None:
    """A watch, which never ends by itself, does not delay the end of the process."""
    async with open_scene(lame_duck="200s") as scene:
        watch = scene.callers.health.Watch(HealthCheckRequest())
        assert await read(watch) == HealthCheckResponse.SERVING
        await scene.stop()
        assert await read(watch) == HealthCheckResponse.NOT_SERVING
        scene.sidecar.signal(signal.SIGTERM)  # ends the lame duck
        assert (await scene.sidecar.ended()).status == 0


# Sends the signal in the middle of the start: just before the first address is bound.
INTERRUPTED = """
import os, signal, sys

def interrupt(event, _):
    if event == "socket.bind":
        for number in {numbers}:
            os.kill(os.getpid(), number)

interrupt.__cantrace__ = True  # otherwise coverage misses handlers that run inside
sys.addaudithook(interrupt)
from sidecar.cli import main
sys.exit(main())
"""


@SIGNALS
async def test_a_signal_during_the_start_stops_it(number: signal.Signals) -> None:
    """A signal before anything answers ends the process as well as a later one."""
    code = INTERRUPTED.format(numbers=[int(number)])
    end = await run(SIDECAR[0], "-c", code, "serve", *free(auth_api_token_url=TOKEN_URL))
    assert (end.status, end.stderr) == (0, "")
    assert log_lines(end.stdout)[-1]["message"] == "stopped"


@measured_once
@SIGNALS
async def test_a_signal_before_the_start_ends_it(number: signal.Signals) -> None:
    """A signal while modules are imported ends the process with status 0 and no output."""
    code = INTERRUPTED.format(numbers=[int(number)]).replace(
        'event == "socket.bind"', 'event == "import" and _[0] == "grpc"'
    )
    end = await run(SIDECAR[0], "-c", code, "serve", *free(auth_api_token_url=TOKEN_URL))
    assert end == Ended(status=0, stdout="", stderr="")


# Sends signals in the middle of two imports: of the commands, and of gRPC, which they import last.
EARLY = INTERRUPTED.replace(
    'event == "socket.bind"', 'event == "import" and _[0] in {names}'
).replace("sidecar.cli import", "sidecar.__main__ import")


@measured_once
@SIGNALS
async def test_a_signal_before_the_imports_ends_it(number: signal.Signals) -> None:
    """A signal before the command is known ends the process with 128 + n, without a traceback."""
    code = EARLY.format(numbers=[int(number)], names=("sidecar.cli",))
    end = await run(SIDECAR[0], "-c", code, "serve", *free(auth_api_token_url=TOKEN_URL))
    assert end == Ended(status=128 + number, stdout="", stderr="")


async def test_any_other_signal_during_the_start_has_no_effect() -> None:
    """Signals of log rotation while modules are imported do not keep the process from serving."""
    others = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGPIPE)
    code = EARLY.format(numbers=[*map(int, others)], names=("sidecar.cli", "grpc", "asyncio"))
    program = (SIDECAR[0], "-c", code)
    async with serving("serve", program=program, auth_api_token_url=TOKEN_URL) as sidecar:
        sidecar.signal(signal.SIGTERM)
        end = await sidecar.ended()
    assert (end.status, end.stderr) == (0, "")


@measured_once
@pytest.mark.parametrize("listener", ["rest_listen", "dev_auth_api_listen"])
async def test_an_address_in_use_is_told(listener: str) -> None:
    """An address in use ends the process with status 78 and a line with setting and address."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = f"127.0.0.1:{holder.getsockname()[1]}"
        end = await run(*SIDECAR, "dev", *free(**{listener: taken}))
    line = f"SIDECAR_{listener.upper()}: cannot listen on {taken}: Address already in use"
    assert end == Ended(status=78, stdout="", stderr=f"karmo-sidecar: {line}\n")


@pytest.mark.parametrize("name", ["rest", "grpc", "admin"])
async def test_two_sidecars_do_not_share_an_address(deployment: Deployment, name: str) -> None:
    """A second sidecar on an address refuses to start; the first one keeps all of its calls."""
    taken = deployment.addresses.by_name()[name]
    flags = {SETTINGS[name]: taken, "auth_api_token_url": TOKEN_URL}
    settings = load({}, FREE_PORTS | flags)
    with pytest.raises(OSError, match=f"{SETTINGS[name].upper()}: cannot listen on {taken}"):
        async with runtime.running(settings, embeds_auth_api=False):
            pytest.fail("the address is shared")
    async with callers(deployment.addresses.by_name()) as opened:
        assert [(await opened.ways[way](SENT)).token for way in ("form", "grpc")] == [TOKEN, TOKEN]
        assert await opened.probe("/readyz") == 200
