"""Tests of REST and gRPC on Unix sockets: clients, the peer in the log, limits, and restarts."""

import asyncio
import json
import ssl
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import httpx2
import pytest
import trustme
from grpc import StatusCode
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest
from karmo.auth.v1.token_service_pb2_grpc import TokenServiceStub

from sidecar import runtime
from tests.patience import HANG
from tests.recorded import Log, recorded
from tests.sidecar_process import SIDECAR, find_tool, free, run, serving, started
from tests.tls.test_reloading import Mount, leaf_of, pair
from tests.upstream import TOKEN, Upstream, answer
from tests.ways import PUBLIC_URL, Sent, basic, open_ways, rest_client, settings

SENT = Sent(fields={"grant_type": "client_credentials"}, authorization=(basic(),))
FORM = {"grant_type": "client_credentials", "client_id": "partner", "client_secret": "secret"}
WRONG = "wrong-secret"
LIMIT = 3  # wrong secrets, of one client and of one address
# Nothing can be made in /proc, whoever tries.
CAUSE = "(No such file or directory|Operation not permitted|Permission denied)"
TRUSTED, FORGED = "203.0.113.9", "203.0.113.8"


@pytest.fixture(name="folder")
def _folder() -> Iterator[Path]:
    # Not tmp_path, which may be too long for the path of a socket.
    with TemporaryDirectory(prefix="karmo-") as folder:
        yield Path(folder)


def listen(folder: Path) -> dict[str, str]:
    """Return settings for both protocols on Unix sockets in `folder`."""
    return {"rest_listen": f"unix:{folder}/rest.sock", "grpc_listen": f"unix:{folder}/grpc.sock"}


def files_in(folder: Path) -> Mapping[str, int]:
    """Return the number of each file in `folder` by its name."""
    return {path.name: path.stat().st_ino for path in folder.iterdir()}


@asynccontextmanager
async def open_sidecar(folder: Path, **flags: str) -> AsyncIterator[Upstream]:
    """Run a sidecar on Unix sockets, whose auth-api refuses the wrong secret."""

    async def judge(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_wrong = WRONG.encode() in upstream.requests[-1]
        writer.write(answer(401, {"error": "invalid_client"}) if is_wrong else answer(200, TOKEN))
        await writer.drain()

    async with Upstream() as upstream:
        upstream.script = judge
        chosen = settings(upstream, **(listen(folder) | flags))
        async with runtime.running(chosen, embeds_auth_api=False) as addresses:
            told = addresses.by_name()
            assert {f"{name}_listen": told[name] for name in ("rest", "grpc")} == listen(folder)
            yield upstream


async def exchange(
    folder: Path, *, client: str = "partner", secret: str = "secret", forwarded: str | None = None
) -> tuple[int, StatusCode]:
    """Exchange by both protocols; return the status and the code."""
    request_id = str(uuid.uuid4())
    headers = {"x-request-id": request_id} | ({"x-forwarded-for": forwarded} if forwarded else {})
    fields = FORM | {"client_id": client, "client_secret": secret}
    async with (
        rest_client(f"unix:{folder}/rest.sock") as rest,
        grpc.aio.insecure_channel(f"unix:{folder}/grpc.sock") as channel,
    ):
        response = await rest.post("/v1/oauth/token", data=fields, headers=headers)
        call = TokenServiceStub(channel).ExchangeToken(
            ExchangeTokenRequest(**fields), metadata=tuple(headers.items()), timeout=HANG
        )
        return response.status_code, await call.code()


async def test_clients_of_both_protocols(folder: Path) -> None:
    """httpx2, curl and grpc exchange over Unix sockets, and problems have the public URL."""
    async with (
        open_sidecar(folder),
        open_ways({"rest": f"unix:{folder}/rest.sock", "grpc": f"unix:{folder}/grpc.sock"}) as ways,
    ):
        for way in ("form", "json", "grpc"):
            assert (await ways[way](SENT)).token == TOKEN
        problem = (await ways["form"](Sent())).problem
        assert problem
        assert problem["type"].startswith(f"{PUBLIC_URL}/problems/")
        curl = (find_tool("curl"), "-s", "--unix-socket", folder / "rest.sock", "-u", "partner:x")
        form = ("-d", "grant_type=client_credentials", "http://localhost/v1/oauth/token")
        end = await run(*curl, *form)
        assert json.loads(end.stdout) == TOKEN
    assert not files_in(folder)


@pytest.mark.parametrize("trusted", [0, 1])
async def test_the_peer_in_the_log(folder: Path, trusted: int) -> None:
    """The peer is `unix`; X-Forwarded-For is believed as far as the setting says."""
    with recorded() as log:
        async with open_sidecar(folder, trusted_proxies=str(trusted)):
            assert await exchange(folder, forwarded=f"{FORGED}, {TRUSTED}") == (200, StatusCode.OK)
            await log.wait_for(2)
    for line in access_lines(log):
        assert (line["peer"], line.get("client_address")) == ("unix", TRUSTED if trusted else None)


def access_lines(log: Log) -> list[Mapping[str, object]]:
    """Return the access lines, one of each protocol."""
    lines = [line for line in log.entries if line["logger"] == "sidecar.access"]
    assert {line["protocol"] for line in lines} == {"rest", "grpc"}
    return lines


async def test_clients_of_a_proxy_are_not_added_up(folder: Path) -> None:
    """Wrong secrets of many clients behind the socket refuse none of them; each has its limit."""
    flags = {"max_client_failures": str(LIMIT), "max_address_failures": str(LIMIT)}
    async with open_sidecar(folder, **flags):
        denied, refused = (401, StatusCode.UNAUTHENTICATED), (429, StatusCode.RESOURCE_EXHAUSTED)
        for number in range(2 * LIMIT):
            assert await exchange(folder, client=f"client-{number}", secret=WRONG) == denied
        assert await exchange(folder, client="client-0", secret=WRONG) == (401, refused[1])
        assert await exchange(folder, client="client-0") == refused
        assert await exchange(folder) == (200, StatusCode.OK)


async def test_forwarded_addresses_are_added_up(folder: Path) -> None:
    """With a trusted proxy the limit of an address counts, as over TCP, and spares the others."""
    flags = {"max_client_failures": str(LIMIT), "max_address_failures": str(LIMIT)}
    async with open_sidecar(folder, trusted_proxies="1", **flags):
        for number in range(LIMIT):
            await exchange(folder, client=f"client-{number}", secret=WRONG, forwarded=TRUSTED)
        assert await exchange(folder, forwarded=TRUSTED) == (429, StatusCode.RESOURCE_EXHAUSTED)
        assert await exchange(folder, forwarded=FORGED) == (200, StatusCode.OK)


async def test_tls(folder: Path) -> None:
    """TLS works over Unix sockets as over TCP."""
    authority = trustme.CA()
    files = Mount(folder, pair(leaf_of(authority))).files("tls")
    tls = {
        f"{side}_tls_{name}": str(file)
        for side in ("rest", "grpc")
        for name, file in (("certificate", files.certificate), ("key", files.key))
    }
    context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    options = (("grpc.ssl_target_name_override", "sidecar.test"),)
    async with (
        open_sidecar(folder, **tls),
        httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(uds=f"{folder}/rest.sock", verify=context)
        ) as rest,
        grpc.aio.secure_channel(f"unix:{folder}/grpc.sock", credentials, options) as channel,
    ):
        response = await rest.post("https://sidecar.test/v1/oauth/token", data=FORM)
        assert response.json() == TOKEN
        request = ExchangeTokenRequest(**FORM)
        answered = await TokenServiceStub(channel).ExchangeToken(request, timeout=HANG)
        assert answered.access_token == TOKEN["access_token"]


@pytest.mark.parametrize("field", ["rest_listen", "grpc_listen"])
async def test_a_living_socket_is_refused(folder: Path, field: str) -> None:
    """A second sidecar on a socket is refused with its setting, and the first one serves on."""
    async with open_sidecar(folder) as upstream:
        before = files_in(folder)
        path = listen(folder)[field]
        text = f"^SIDECAR_{field.upper()}: cannot listen on {path}: Address already in use$"
        with pytest.raises(OSError, match=text):
            async with runtime.running(settings(upstream, **{field: path}), embeds_auth_api=False):
                pytest.fail("the socket is shared")
        assert files_in(folder) == before
        assert await exchange(folder) == (200, StatusCode.OK)


@pytest.mark.parametrize("field", ["rest_listen", "grpc_listen"])
async def test_a_folder_that_takes_no_socket(folder: Path, field: str) -> None:
    """Where a socket cannot be made, both protocols say the same of the address and the cause."""
    flags = {field: "unix:/proc/karmo.sock"}
    text = f"^SIDECAR_{field.upper()}: cannot listen on unix:/proc/karmo.sock: {CAUSE}$"
    with pytest.raises(OSError, match=text):
        async with open_sidecar(folder, **flags):
            pytest.fail("it made a socket in /proc")
    assert not files_in(folder)


async def test_a_failed_start_leaves_no_socket(folder: Path) -> None:
    """If another listener cannot be had, the sockets that were made before are removed."""
    (folder / "grpc.sock").touch()
    with pytest.raises(OSError, match="there is a file that is not a socket"):
        async with open_sidecar(folder):
            pytest.fail("it replaced a file")
    assert list(files_in(folder)) == ["grpc.sock"]


async def test_a_killed_sidecar_is_replaced(folder: Path) -> None:
    """After SIGKILL a new process takes the sockets that are left, and removes them at its end."""
    async with Upstream() as upstream:
        flags: Mapping[str, Any] = listen(folder) | {
            "auth_api_token_url": upstream.url,
            "public_url": PUBLIC_URL,
        }
        async with started(*SIDECAR, "serve", *free(**flags)) as sidecar:
            await sidecar.serve()
            await sidecar.kill()
        assert sorted(files_in(folder)) == ["grpc.sock", "rest.sock"]
        async with serving("serve", **flags):
            assert await exchange(folder) == (200, StatusCode.OK)
        assert not files_in(folder)
