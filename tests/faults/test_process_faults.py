"""Faults of the process and of the machine below it (rows P): signals, kills, limits, rights."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM
from typing import Any

import grpc
import httpx2
import pytest
import trustme
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from sidecar.settings.types import Address
from tests.faults.conditions import eventually, footprint, no_secret
from tests.faults.in_hand import SENT as STAGES
from tests.faults.in_hand import UNREAD, in_hand, tls_files
from tests.faults.wire import accepts, host_and_port, ipv6_works
from tests.raw_http import answer_to, request
from tests.sidecar_process import SIDECAR, Ended, find_tool, free, log_lines, run, serving, started
from tests.test_runtime import UNHURRIED, Scene, callers, open_scene
from tests.tls.test_reloading import Mount, leaf_of, pair
from tests.upstream import TOKEN, Hold, Upstream
from tests.ways import Outcome, Sent, Way, basic, open_deployment, open_ways

SECRET = "canary-secret-of-the-process"
CALL = Sent(fields={"grant_type": "client_credentials"}, authorization=(basic("partner", SECRET),))
NOBODY = "http://127.0.0.1:9/v1/oauth/token"
# Without rights: as a user of the number that images without root have, who may not get any
# right back, and to whom all files are read-only. To the system it is who runs the tests.
LEAST = """
# Coverage writes a file at the end.
unset COVERAGE_PROCESS_CONFIG COVERAGE_PROCESS_START
mount --make-rprivate / && mount -o remount,bind,ro / && exec unshare --user --keep-caps \
--map-user=65532 --map-group=65532 setpriv --no-new-privs --ambient-caps=-all --inh-caps=-all \
--bounding-set=-all "$@"
"""


def is_clean(end: Ended) -> bool:
    """Whether it ended with status 0, told nothing but its log, and no fault or secret there."""
    no_secret(end.stdout, SECRET, "partner:secret", str(TOKEN["access_token"]))
    levels = {line["level"] for line in log_lines(end.stdout)}
    last = log_lines(end.stdout)[-1]["message"]
    return (end.status, end.stderr, levels, last) == (0, "", {"info"}, "stopped")


@asynccontextmanager
async def connected(*addresses: str) -> AsyncIterator[list[asyncio.StreamReader]]:
    """Open a connection to each address, and send nothing."""
    readers, writers = [], []
    for address in addresses:
        reader, writer = await asyncio.open_connection(*host_and_port(address))
        readers.append(reader)
        writers.append(writer)
    try:
        yield readers
    finally:
        for writer in writers:
            writer.close()


async def test_p01_connections_that_idle_do_not_delay_the_end() -> None:
    """With connections that were used, on all listeners, SIGTERM ends it soon and cleanly."""
    async with (
        Upstream() as upstream,
        serving("serve", auth_api_token_url=upstream.url, **UNHURRIED) as sidecar,
        callers(sidecar.addresses) as made,
    ):
        for way in ("form", "grpc"):
            assert (await made.ways[way](CALL)).token == TOKEN
        assert await made.probe("/readyz") == 200
        sidecar.signal(SIGTERM)
        end = await sidecar.ended()
    assert is_clean(end), end


NOTHING = b"GET /nothing HTTP/1.1\r\nHost: sidecar.test\r\n\r\n"


@pytest.mark.timing("the header timeout may end the connections also before they are told")
async def test_p01_silent_connections_end_without_a_reset() -> None:
    """Who connected and said nothing is told by FIN, and keeps nobody waiting."""
    async with serving(
        "serve", auth_api_token_url=NOBODY, header_timeout="1s", **UNHURRIED
    ) as sidecar:
        told = sidecar.addresses
        async with (
            connected(*[told["rest"], told["admin"]] * 10) as silent,
            connected(*[told["grpc"]] * 10),
        ):
            await accepted(told["rest"], told["admin"])
            sidecar.signal(SIGTERM)
            assert [await other.read() for other in silent] == [b""] * 20
        assert is_clean(await sidecar.ended())


async def accepted(*addresses: str) -> None:
    """Wait until each listener has taken the connections that were made before this."""
    for address in addresses:
        received = await answer_to(Address(*host_and_port(address)), request("GET", "/nothing"))
        assert received.status == 404


async def test_p01_who_speaks_in_the_last_moment_is_answered() -> None:
    """A request on a connection that there is, is served also when nobody listens any more."""
    async with serving("serve", auth_api_token_url=NOBODY) as sidecar:
        rest = sidecar.addresses["rest"]
        reader, writer = await asyncio.open_connection(*host_and_port(rest))
        await accepted(rest)
        sidecar.signal(SIGTERM)
        await eventually(lambda: not accepts(rest))
        writer.write(NOTHING)
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert b"\r\nConnection: close\r\n" in answer
        writer.close()
        assert is_clean(await sidecar.ended())


async def test_p01_a_last_signal_spoils_nothing() -> None:
    """Whoever presses Ctrl-C again when all is done still gets status 0."""
    async with serving("serve", auth_api_token_url=NOBODY) as sidecar:
        sidecar.signal(SIGINT)
        await sidecar.log.find('"message": "stopped"')
        for _ in range(10):
            sidecar.signal(SIGINT)
        assert is_clean(await sidecar.ended())


async def test_p01_a_read_without_end_does_not_keep_it(tmp_path: Path) -> None:
    """A file that hangs when it is read, as on a mount whose other side is gone, delays no end."""
    mount = Mount(tmp_path, pair(leaf_of(trustme.CA())))
    files, key = mount.files("tls"), tmp_path / "tls.key"
    async with serving(
        "serve",
        auth_api_token_url=NOBODY,
        rest_tls_certificate=str(files.certificate),
        rest_tls_key=str(files.key),
    ) as sidecar:
        held: list[int] = []
        key.unlink()
        os.mkfifo(key)
        await eventually(lambda: is_being_read(key, held))
        sidecar.signal(SIGTERM)
        assert is_clean(await sidecar.ended())
        os.close(held[0])


def is_being_read(fifo: Path, held: list[int]) -> bool:
    """Return whether somebody waits for what is written there, and let it wait on by `held`."""
    try:
        held.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


@pytest.mark.timing("of two timers of gRPC core, 9 s apart, it says which one passed first")
async def test_p01_a_silent_grpc_connection_is_given_up() -> None:
    """As the end waits for it, it has as long as the header of a REST request."""
    async with (
        open_deployment(header_timeout="1s") as deployment,
        connected(str(deployment.addresses.grpc)) as (reader,),
    ):
        assert b"before handshake timeout" in await reader.read()  # else it is "settings_timeout"


def is_stopping(outcome: Outcome) -> bool:
    """Whether it is the answer to a call that could not be waited for, by its protocol."""
    assert outcome.problem
    name = str(outcome.problem["type"]).rpartition("/")[2]
    told = outcome.code or (outcome.status, outcome.headers["connection"])
    return name == "service-stopping" and told in (grpc.StatusCode.UNAVAILABLE, (503, "close"))


async def refuses(scene: Scene) -> None:
    """Wait until neither protocol takes connections."""
    for name in ("rest", "grpc"):
        await eventually(lambda address=scene.sidecar.addresses[name]: not accepts(address))  # type: ignore[misc] # mypy does not infer the default


async def test_p01_each_signal_hastens_the_end() -> None:
    """The second one ends a long lame duck, the third one the calls, which are told so."""
    async with open_scene(lame_duck="200s") as scene:
        calls = [scene.call("form"), scene.call("grpc")]
        await scene.hold.wait_for(2)
        await scene.stop()
        assert accepts(scene.sidecar.addresses["rest"])
        scene.sidecar.signal(SIGTERM)
        await refuses(scene)
        assert not any(call.done() for call in calls)
        scene.sidecar.signal(SIGTERM)
        assert [is_stopping(await call) for call in calls] == [True, True]
        assert is_clean(await scene.sidecar.ended())


@pytest.mark.usefixtures("measured_once")
@pytest.mark.parametrize("over_tls", [False, True], ids=["plain", "tls"])
async def test_p01_a_further_signal_answers_each_call(tmp_path: Path, *, over_tls: bool) -> None:
    """In the drain a further SIGTERM ends each call, however far it has come, with an answer."""
    files, trust = tls_files()
    flags: dict[str, Any] = {}
    if over_tls:
        tls = Mount(tmp_path, files).files("tls")
        flags = {"rest_tls_certificate": str(tls.certificate), "rest_tls_key": str(tls.key)}
    hold = Hold()
    async with Upstream() as upstream:
        upstream.script = hold.script
        flags |= {"auth_api_token_url": upstream.url, **UNHURRIED}
        async with (
            serving("serve", **flags) as sidecar,
            in_hand(sidecar.addresses, hold, tls=trust if over_tls else None) as calls,
        ):
            sidecar.signal(SIGTERM)
            await sidecar.log.find('"message": "lame duck ended"')
            calls.send_late()
            sidecar.signal(SIGTERM)
            outcomes = await calls.outcomes()
            assert is_clean(await sidecar.ended())
        hold.release.set()
    by_rest = ["200" if stage == UNREAD else "503 service-stopping" for stage in STAGES]
    assert outcomes == by_rest + ([] if over_tls else ["UNAVAILABLE"] * 2)


async def test_p01_drain_does_what_sigterm_does() -> None:
    """After POST /drain it is not ready and serves on, and SIGTERM is then a first signal."""
    async with open_scene(lame_duck="200s") as scene:
        made, told = scene.callers, scene.sidecar.addresses
        call = scene.call("form")
        await scene.hold.wait_for(1)
        assert await connection_of(made.http, told["rest"]) == (404, None)
        assert (await made.http.post(f"http://{told['rest']}/drain")).status_code == 404
        assert await made.probe("/readyz") == 200
        for _ in range(2):  # the second one changes nothing
            assert (await made.http.post(f"http://{told['admin']}/drain")).status_code == 202
            probes = [await made.probe(path) for path in ("/readyz", "/livez", "/startupz")]
            assert probes == [503, 200, 200]
            for _ in range(2):  # the connection that it had, and a new one
                assert await connection_of(made.http, told["rest"]) == (404, "close")
        health = await made.health.Check(HealthCheckRequest(), timeout=20)
        assert health.status == HealthCheckResponse.NOT_SERVING
        scene.sidecar.signal(SIGTERM)
        await scene.sidecar.log.find('"by": "SIGTERM"')
        assert await connection_of(made.http, told["rest"]) == (404, "close")
        scene.sidecar.signal(SIGTERM)
        await refuses(scene)
        scene.hold.release.set()
        assert (await call).token == TOKEN
        end = await scene.sidecar.ended()
        assert is_clean(end)
        wishes = [
            line["by"] for line in log_lines(end.stdout) if line["message"] == "stop requested"
        ]
        assert wishes == ["POST /drain", "POST /drain", "SIGTERM", "SIGTERM"]


async def test_p01_sigterm_in_a_drain_by_request_cuts_no_call() -> None:
    """While the drain that POST /drain began waits for calls, SIGTERM ends none of them."""
    async with open_scene() as scene:
        calls = [scene.call("form"), scene.call("grpc")]
        await scene.hold.wait_for(2)
        drain = f"http://{scene.sidecar.addresses['admin']}/drain"
        assert (await scene.callers.http.post(drain)).status_code == 202
        await refuses(scene)
        scene.sidecar.signal(SIGTERM)
        await scene.sidecar.log.find('"by": "SIGTERM"')
        assert (await scene.callers.http.post(drain)).status_code == 202
        scene.hold.release.set()
        assert [(await call).token for call in calls] == [TOKEN, TOKEN]
        assert is_clean(await scene.sidecar.ended())


async def connection_of(client: httpx2.AsyncClient, rest: str) -> tuple[int, str | None]:
    """Return the status of an answer, and what it says of the connection."""
    answer = await client.get(f"http://{rest}/nothing")
    return answer.status_code, answer.headers.get("connection")


async def test_p02_a_killed_sidecar_is_replaced_on_its_ports() -> None:
    """After SIGKILL, with calls in flight, another one on the same ports is ready and serves."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(Upstream())
        hold = Hold()
        upstream.script = hold.script
        flags = free(auth_api_token_url=upstream.url)
        killed = await stack.enter_async_context(started(*SIDECAR, "serve", *flags))
        await killed.serve()
        told = killed.addresses
        made = await stack.enter_async_context(callers(told))
        lost = [asyncio.ensure_future(made.ways[way](CALL)) for way in ("form", "grpc")]
        await hold.wait_for(2)
        killed.signal(SIGKILL)
        ends = await asyncio.gather(*lost, return_exceptions=True)
        assert isinstance(ends[0], httpx2.TransportError)
        assert isinstance(ends[1], Outcome)
        assert ends[1].code is grpc.StatusCode.UNAVAILABLE
        hold.release.set()
        same = {f"{name}_listen": told[name] for name in ("rest", "grpc", "admin")}
        flags = free(auth_api_token_url=upstream.url, **same)
        other = await stack.enter_async_context(started(*SIDECAR, "serve", *flags))
        await other.serve()
        made = await stack.enter_async_context(callers(told))
        assert await made.probe("/readyz") == 200
        assert [(await made.ways[way](CALL)).token for way in ("form", "grpc")] == [TOKEN, TOKEN]


@pytest.fixture(name="least")
async def _find_least() -> Sequence[str | Path]:
    """Give what runs a command without rights, where the system lets users make namespaces."""
    unshare, _ = find_tool("unshare"), find_tool("setpriv")
    found = (unshare, "--user", "--map-root-user", "--mount", "bash", "-c", LEAST, "bash")
    probe = await run(*found, "true")
    if probe.status:
        pytest.skip(f"no namespaces for users: {probe.stderr.strip()}")
    return found


async def test_p13_least_privilege_is_enough(least: Sequence[str | Path]) -> None:
    """Without root, rights and a writable file, it serves on all listeners and ends well."""
    rights = await run(*least, "bash", "-c", "id -u; grep -E 'Cap|NoNew' /proc/self/status")
    words = rights.stdout.split()
    assert (words[0], set(words[2::2])) == ("65532", {"0" * 16, "1"})
    written = await run(*least, "touch", "here")
    assert written.stderr.endswith("Read-only file system\n")
    async with Upstream() as upstream:
        program = (*least, *SIDECAR)
        async with serving("serve", program=program, auth_api_token_url=upstream.url) as sidecar:
            async with callers(sidecar.addresses) as made:
                for way in ("form", "json", "grpc"):
                    assert (await made.ways[way](CALL)).token == TOKEN
                assert await made.probe("/readyz") == 200
            sidecar.signal(SIGTERM)
            assert is_clean(await sidecar.ended())


def is_refusal(end: Ended, told: str) -> bool:
    """Whether it ended for its configuration, with one line that tells the fault."""
    return end == Ended(status=78, stdout="", stderr=f"karmo-sidecar: {told}\n")


async def test_p09_a_privileged_port_is_told(least: Sequence[str | Path]) -> None:
    """A port that takes a right to listen on, without it, ends with one line and status 78."""
    flags = {"grpc_listen": "127.0.0.1:1", "auth_api_token_url": NOBODY}
    end = await run(*least, *SIDECAR, "serve", *free(**flags))
    told = "cannot listen on 127.0.0.1:1: Permission denied"
    assert is_refusal(end, f"SIDECAR_GRPC_LISTEN: {told}"), end


async def test_p09_an_address_of_another_machine_is_told() -> None:
    """An address that is not of this machine ends with one line and status 78."""
    end = await run(*SIDECAR, "serve", *free(rest_listen="192.0.2.1:0", auth_api_token_url=NOBODY))
    told = "cannot listen on 192.0.2.1:0: Cannot assign requested address"
    assert is_refusal(end, f"SIDECAR_REST_LISTEN: {told}"), end


async def test_p09_ipv6_alone() -> None:
    """Where every listener is on IPv6, both protocols and the probes answer there."""
    if not ipv6_works():
        pytest.skip("no IPv6 here")
    listen = dict.fromkeys(("rest_listen", "grpc_listen", "admin_listen"), "[::1]:0")
    async with (
        open_deployment(**listen) as deployment,
        callers(deployment.addresses.by_name()) as made,
    ):
        assert await made.probe("/readyz") == 200
        for way in ("form", "grpc"):
            assert (await made.ways[way](CALL)).token == TOKEN


@pytest.mark.parametrize(
    ("command", "kind", "told"),
    [
        ("serve", "missing", "cannot read {}: No such file or directory"),
        ("check-config", "missing", "cannot read {}: No such file or directory"),
        ("check-config", "folder", "cannot read {}: Is a directory"),
        ("check-config", "forbidden", "cannot read {}: Permission denied"),
        ("check-config", "other", "{} must hold complete certificates in PEM"),
    ],
)
async def test_p10_a_certificate_that_cannot_be_read_is_told(
    least: Sequence[str | Path], tmp_path: Path, command: str, kind: str, told: str
) -> None:
    """Both commands end with status 78 and one line that names the file, not what is in it."""
    path = tmp_path / "tls.crt"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_text(SECRET)
        path.chmod(0o000 if kind == "forbidden" else 0o600)
    files = dict.fromkeys(("rest_tls_certificate", "rest_tls_key"), str(path))
    end = await run(*least, *SIDECAR, command, *free(auth_api_token_url=NOBODY, **files))
    assert is_refusal(end, f"SIDECAR_REST_TLS_CERTIFICATE: {told.format(path)}"), end


async def test_p04_no_descriptors_left() -> None:
    """With all descriptors taken by clients it lives and answers, says little, and recovers."""
    prlimit = find_tool("prlimit")
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        upstream = await enter(Upstream())
        flags = free(auth_api_token_url=upstream.url)
        sidecar = await enter(started(prlimit, "--nofile=64:64", *SIDECAR, "serve", *flags))
        await sidecar.serve()
        told = sidecar.addresses
        made = await enter(callers(told))
        assert await made.probe("/livez") == 200
        assert (await made.ways["grpc"](CALL)).token == TOKEN
        before = footprint(sidecar.pid).descriptors
        async with connected(*[told["rest"], told["grpc"]] * 50):
            await eventually(lambda: footprint(sidecar.pid).descriptors >= 63)
            for _ in range(20):  # by the connection that it has
                assert await made.probe("/livez") == 200
            outcome = await made.ways["grpc"](CALL)
            assert outcome.problem
            assert outcome.code is grpc.StatusCode.UNAVAILABLE
        await eventually(lambda: footprint(sidecar.pid).descriptors <= before + 2)
        async with open_ways(told) as ways:  # by new connections
            for way in ("form", "grpc"):
                await eventually(partial(serves, ways[way]))
        sidecar.signal(SIGTERM)
        end = await sidecar.ended()
        assert end.status == 0
        no_secret(end.stdout + end.stderr, SECRET, str(TOKEN["access_token"]))
        # gRPC core says on standard error, once a second, that it waits.
        assert len(end.stdout.splitlines()) + len(end.stderr.splitlines()) < 40


async def serves(way: Way) -> bool:
    """Return whether a call is served."""
    return (await way(CALL)).token == TOKEN
