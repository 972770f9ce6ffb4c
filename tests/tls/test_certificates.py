"""Tests of TLS in a whole sidecar: both protocols and the auth-api, with files in settings."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import httpx2
import pytest
import trustme
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest
from karmo.auth.v1.token_service_pb2_grpc import TokenServiceStub

from sidecar import runtime
from sidecar.process.sockets import Addresses
from sidecar.settings.model import Settings
from sidecar.settings.sources import SettingsError
from sidecar.tls import reloading
from sidecar.tls.certificates import Certificates
from tests.recorded import recorded
from tests.sidecar_process import SIDECAR, as_flags, run
from tests.tls.test_reloading import Mount, leaf_of, pair, trust
from tests.upstream import TOKEN, Upstream
from tests.ways import settings

FIELDS = {"grant_type": "client_credentials", "client_id": "partner", "client_secret": "secret"}
GUARD = 60


PAIR_OF_SETTINGS = ("certificate", "key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Secured:
    """A sidecar with TLS on all sides, each of which requires a certificate."""

    mount: Mount
    addresses: Addresses
    authority: trustme.CA
    upstream: Upstream

    async def by_rest(self) -> tuple[int, Mapping[str, object]]:
        """Return status and body of an exchange over a new connection."""
        context = ssl.create_default_context(cadata=self.authority.cert_pem.bytes().decode())
        leaf_of(self.authority).configure_cert(context)
        url = f"https://{self.addresses.rest}/v1/oauth/token"
        async with httpx2.AsyncClient(verify=context, trust_env=False, timeout=GUARD) as client:
            response = await client.post(url, data=FIELDS)
        return response.status_code, response.json()

    async def by_grpc(self) -> str:
        """Return the token of an exchange over a new connection."""
        leaf = leaf_of(self.authority)
        chain = b"".join(part.bytes() for part in leaf.cert_chain_pems)
        credentials = grpc.ssl_channel_credentials(
            self.authority.cert_pem.bytes(), leaf.private_key_pem.bytes(), chain
        )
        async with grpc.aio.secure_channel(str(self.addresses.grpc), credentials) as channel:
            stub = TokenServiceStub(channel)
            answer = await stub.ExchangeToken(ExchangeTokenRequest(**FIELDS), timeout=GUARD)
        return answer.access_token


def upstream_context(authority: trustme.CA) -> ssl.SSLContext:
    """Return the context of a server that requires a certificate."""
    context = ssl.create_default_context(
        ssl.Purpose.CLIENT_AUTH, cadata=authority.cert_pem.bytes().decode()
    )
    context.verify_mode = ssl.CERT_REQUIRED
    leaf_of(authority).configure_cert(context)
    return context


def flags_of(mount: Mount) -> dict[str, str]:
    """Return settings with which every side uses the files of `mount`."""
    folder = mount.folder
    flags = {}
    for side, authority in (("rest", "client_ca"), ("grpc", "client_ca"), ("auth_api", "ca")):
        flags[f"{side}_tls_certificate"] = str(folder / "tls.crt")
        flags[f"{side}_tls_key"] = str(folder / "tls.key")
        flags[f"{side}_tls_{authority}"] = str(folder / "ca.crt")
    return flags


@asynccontextmanager
async def open_secured(folder: Path) -> AsyncIterator[Secured]:
    """Run a secured sidecar."""
    authority = trustme.CA()
    mount = Mount(folder, pair(leaf_of(authority)) | trust(authority))
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(Upstream(upstream_context(authority)))
        chosen = settings(upstream, **flags_of(mount))
        running = runtime.running(chosen, embeds_auth_api=False)
        yield Secured(
            mount=mount,
            addresses=await stack.enter_async_context(running),
            authority=authority,
            upstream=upstream,
        )


async def test_every_side_speaks_tls(tmp_path: Path) -> None:
    """Callers of both protocols and the auth-api receive a certificate, and must send one."""
    async with open_secured(tmp_path) as secured:
        assert await secured.by_rest() == (200, TOKEN)
        assert await secured.by_grpc() == TOKEN["access_token"]
        stranger = ssl.create_default_context(cadata=secured.authority.cert_pem.bytes().decode())
        async with httpx2.AsyncClient(verify=stranger, trust_env=False) as client:
            with pytest.raises(httpx2.TransportError):
                await client.post(f"https://{secured.addresses.rest}/v1/oauth/token", data=FIELDS)


async def test_no_call_fails_while_certificates_are_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls succeed while the files are replaced, until the log reports the new ones."""
    monkeypatch.setattr(reloading, "watch", partial(reloading.watch, every=0.01))
    async with open_secured(tmp_path) as secured, asyncio.timeout(3 * GUARD):
        calls = 0
        for _ in range(2):
            with recorded() as log:
                files = pair(leaf_of(secured.authority)) | trust(secured.authority)
                secured.mount.put(files)
                while len(replaced(log.entries)) < 3:
                    assert await secured.by_rest() == (200, TOKEN)
                    assert await secured.by_grpc() == TOKEN["access_token"]
                    calls += 2
        assert calls >= 4
        assert len(secured.upstream.requests) == calls


def replaced(entries: Sequence[Mapping[str, object]]) -> list[object]:
    """Return the sides whose certificates were replaced."""
    return [entry["listener"] for entry in entries if entry["message"] == "certificates replaced"]


async def test_a_public_url_of_tls(tmp_path: Path) -> None:
    """If REST has TLS, the types of problems are https URLs."""
    authority = trustme.CA()
    mount = Mount(tmp_path, pair(leaf_of(authority)) | trust(authority))
    async with Upstream(upstream_context(authority)) as upstream:
        chosen = settings(upstream, **flags_of(mount)).model_copy(update={"public_url": None})
        async with runtime.running(chosen, embeds_auth_api=False) as addresses:
            context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
            leaf_of(authority).configure_cert(context)
            async with httpx2.AsyncClient(verify=context, trust_env=False) as client:
                response = await client.get(f"https://{addresses.rest}/nothing")
    assert response.json()["type"] == f"https://{addresses.rest}/problems/not-found"


def test_nothing_is_read_that_is_not_set(tmp_path: Path) -> None:
    """Without files no side has TLS; a CA without a pair is only for the auth-api."""
    authority = trustme.CA()
    mount = Mount(tmp_path, trust(authority))
    assert Certificates.load(settings_of()).parts == []
    certificates = Certificates.load(settings_of(auth_api_tls_ca=str(mount.folder / "ca.crt")))
    assert (certificates.rest, certificates.grpc) == (None, None)
    assert certificates.parts == [certificates.auth_api]


def settings_of(**flags: str) -> Settings:
    """Return settings with `flags`."""
    return Settings.model_validate(flags)


@pytest.mark.usefixtures("measured_once")
@pytest.mark.parametrize(("command", "side"), [("check-config", "grpc"), ("serve", "rest")])
async def test_bad_files_are_told_at_the_start(tmp_path: Path, command: str, side: str) -> None:
    """A missing file ends the process with status 78 and one line that names it."""
    missing = {f"{side}_tls_{name}": str(tmp_path / name) for name in PAIR_OF_SETTINGS}
    listen = dict.fromkeys(("rest_listen", "grpc_listen", "admin_listen"), "127.0.0.1:0")
    url = {"auth_api_token_url": "https://127.0.0.1:9/token"}
    end = await run(*SIDECAR, command, *as_flags(missing | listen | url))
    assert (end.status, end.stdout) == (78, "")
    assert end.stderr == f"karmo-sidecar: {missing_file(side, tmp_path / 'certificate')}\n"


def missing_file(side: str, path: Path) -> str:
    """Return the fault of a side whose file is missing."""
    return f"SIDECAR_{side.upper()}_TLS_CERTIFICATE: cannot read {path}: No such file or directory"


def test_the_bad_files_of_all_sides_are_told_at_once(tmp_path: Path) -> None:
    """The bad files of all sides are reported together."""
    sides = ("rest", "grpc", "auth_api")
    flags = {
        f"{side}_tls_{name}": str(tmp_path / side) for side in sides for name in PAIR_OF_SETTINGS
    }
    with pytest.raises(SettingsError) as caught:
        Certificates.load(settings_of(**flags))
    assert caught.value.violations == tuple(missing_file(side, tmp_path / side) for side in sides)
