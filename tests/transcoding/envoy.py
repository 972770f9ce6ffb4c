"""Runs Envoy, whose filter grpc_json_transcoder is the reference that ours is compared with.

What belongs here: its configuration, starting and stopping it. What it must do is in the tests.
"""

import asyncio
import json
import re
import signal
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from base64 import b64encode
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import httpx2
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from sidecar.settings.types import Address
from tests.sidecar_process import Lines, find_tool

Config: TypeAlias = "Mapping[str, object]"

_HOST = "127.0.0.1"
_STOP_TIMEOUT = 10.0  # seconds
_TYPES = "type.googleapis.com/envoy.extensions"
# As near to our own behavior as its options go.
# https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/extensions/filters/http/grpc_json_transcoder/v3/transcoder.proto
OPTIONS: Config = MappingProxyType(
    {
        "convert_grpc_status": True,
        "print_options": {"always_print_primitive_fields": True},
        "query_param_unescape_plus": True,
        "request_validation_options": {
            "reject_unknown_method": True,
            "reject_unknown_query_parameters": True,
            "reject_binding_body_field_collisions": True,
        },
        "url_unescape_spec": "ALL_CHARACTERS_EXCEPT_SLASH",
    }
)


@asynccontextmanager
async def envoy(
    image: FileDescriptorSet, services: Iterable[str], backend: int, **options: object
) -> AsyncIterator[Address]:
    """Give where Envoy serves `services` of `image` by calling the port `backend` of this host.

    `options` are fields of the filter's configuration, besides OPTIONS. Without
    the binary the calling test is skipped, or fails where the environment has CI=true.
    Raises RuntimeError, with what it logged, if it does not start.
    """
    schema = {"proto_descriptor_bin": b64encode(image.SerializeToString()).decode()}
    transcoder = {**schema, "services": [*services], **OPTIONS, **options}
    kind = "filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder"
    filters = (_filter(kind, **transcoder),)
    async with _serving(_bootstrap(filters, backend, "http2_protocol_options")) as address:
        yield address


@asynccontextmanager
async def reverse_proxy(backend: int) -> AsyncIterator[Address]:
    """Give the address of an Envoy that only forwards HTTP/1.1 to the port `backend` of this host.

    Without the binary, or if it does not start, it does what `envoy` does.
    """
    async with _serving(_bootstrap((), backend, "http_protocol_options")) as address:
        yield address


@asynccontextmanager
async def _serving(bootstrap: Config) -> AsyncIterator[Address]:
    binary = find_tool("envoy")
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "bootstrap.json"
        config.write_text(json.dumps(bootstrap))
        process = await _started(binary, config)
        assert process.stderr
        log = Lines(process.stderr)
        try:
            yield await _address(log)
        finally:
            await _stop(process)
            await log.all()


async def _started(binary: Path, config: Path) -> Process:
    # One worker, and nothing that is shared with another Envoy on this machine.
    flags = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "info")
    command = (binary, "--config-path", config, *flags)
    return await asyncio.create_subprocess_exec(
        *command, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE
    )


async def _address(log: Lines) -> Address:
    try:
        told = re.search(r"admin address: \S+:(\d+)", await log.find("admin address: "))
        await log.find("starting workers")
    except EOFError:
        raise RuntimeError(f"Envoy ended before it was ready:\n{await log.all()}") from None
    assert told
    # It answers after the workers have started, when the listener takes connections.
    async with httpx2.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://{_HOST}:{told[1]}/listeners?format=json")
    bound = answer.json()["listener_statuses"][0]["local_address"]["socket_address"]
    return Address(bound["address"], bound["port_value"])


async def _stop(process: Process) -> None:
    """End it, by force if it does not end when asked to."""
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(_STOP_TIMEOUT):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _bootstrap(filters: Iterable[Config], backend: int, protocol: str) -> Config:
    everything = {"match": {"prefix": "/"}, "route": {"cluster": "backend"}}
    host = {"name": "all", "domains": ["*"], "routes": [everything]}
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "rest",
        "generate_request_id": False,
        # A path is judged by the transcoder as it was sent.
        "normalize_path": False,
        "merge_slashes": False,
        "route_config": {"virtual_hosts": [host]},
        "http_filters": [*filters, _filter("filters.http.router.v3.Router")],
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    listener = {"name": "rest", "address": _socket(0), "filter_chains": [chain]}
    return {
        "admin": {"address": _socket(0)},
        "static_resources": {"listeners": [listener], "clusters": [_cluster(backend, protocol)]},
    }


def _filter(kind: str, **config: object) -> Config:
    return {"name": kind, "typed_config": {"@type": f"{_TYPES}.{kind}", **config}}


def _cluster(backend: int, protocol: str) -> Config:
    endpoint = {"endpoint": {"address": _socket(backend)}}
    kind = f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions"
    return {
        "name": "backend",
        "load_assignment": {
            "cluster_name": "backend",
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
        "typed_extension_protocol_options": {
            kind.removeprefix("type.googleapis.com/"): {
                "@type": kind,
                "explicit_http_config": {protocol: {}},
            }
        },
    }


def _socket(port: int) -> Config:
    return {"socket_address": {"address": _HOST, "port_value": port}}
