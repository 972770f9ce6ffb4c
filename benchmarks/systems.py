"""What is measured: our transcoder before services, in its process or another, and Envoy.

Run as a program it is the server `ours` or `backend`, which prints its port and
ends with its standard input. `ours` takes the port of a backend that is elsewhere.
"""

import asyncio
import gc
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from types import MappingProxyType
from typing import Any

import grpc
import uvloop
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from starlette.routing import Router

from benchmarks import sample
from sidecar.http_server.listener import HttpListener
from sidecar.in_process import InProcessChannel
from sidecar.process.sockets import address_of, listen
from sidecar.settings.types import Address
from sidecar.transcoding import Options, Transcoder
from tests.transcoding import echo
from tests.transcoding.envoy import envoy

_HOST = "127.0.0.1"
_LARGEST = 1024 * 1024
_VOLUMES: Any = sample.make(max(sample.SIZES))
_START_TIMEOUT = 20.0  # seconds


@asynccontextmanager
async def our_system(cores: AbstractSet[int]) -> AsyncIterator[Address]:
    """Give where our transcoder serves, on `cores` alone."""
    async with _running("ours", cores) as port:
        yield Address(_HOST, port)


@asynccontextmanager
async def our_divided_system(cores: AbstractSet[int]) -> AsyncIterator[Address]:
    """Give where our transcoder serves, which is on `cores` alone, together with what it calls."""
    async with _running("backend", cores) as port, _running("ours", cores, str(port)) as ours:
        yield Address(_HOST, ours)


@asynccontextmanager
async def envoys_system(
    cores: AbstractSet[int], framing: Mapping[str, bool] = MappingProxyType({})
) -> AsyncIterator[Address]:
    """Give where Envoy serves, which is on `cores` alone, together with what it calls.

    `framing` are those of its print_options that choose the framing of streams.
    """
    printed = {"always_print_primitive_fields": True, **framing}
    limits = dict.fromkeys(("max_request_body_size", "max_response_body_size"), _LARGEST)
    async with _running("backend", cores) as port, AsyncExitStack() as stack:
        with on_cores(cores):  # which a process inherits
            services = (echo.RULES, sample.STREAMS)
            serving = envoy(sample.IMAGE, services, port, print_options=printed, **limits)
            address = await stack.enter_async_context(serving)
        yield address


@contextmanager
def on_cores(cores: AbstractSet[int]) -> Iterator[None]:
    """Run on `cores` alone, where the system can be told so; without any, wherever it wants."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def split_cores() -> tuple[AbstractSet[int], AbstractSet[int]]:
    """Return a core for what is measured and one for what measures, or none if there are not two.

    Not every system can be told.
    """
    if not hasattr(os, "sched_getaffinity"):
        return frozenset(), frozenset()
    first, *others = sorted(os.sched_getaffinity(0))
    return (frozenset({first}), frozenset({others[-1]})) if others else (frozenset(), frozenset())


@asynccontextmanager
async def _running(name: str, cores: AbstractSet[int], *arguments: str) -> AsyncIterator[int]:
    with on_cores(cores):
        process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, name, *arguments, stdin=PIPE, stdout=PIPE
        )
    try:
        yield await _read_port(process)
    finally:
        await process.communicate(b"")


async def _read_port(process: Process) -> int:
    if process.stdout is None:
        raise ValueError("a process without a pipe tells no port")
    async with asyncio.timeout(_START_TIMEOUT):
        return int(await process.stdout.readline())


async def _echo(request: Message, _context: object) -> Message:
    return request


async def _watch(request: Any, _context: object) -> AsyncIterator[Message]:
    for volume in _VOLUMES.volumes[: int(request.name)]:
        yield volume


def _handlers() -> tuple[grpc.GenericRpcHandler, ...]:
    echo_handler = grpc.unary_unary_rpc_method_handler(_echo, **_codec(sample.METHOD))
    watch_handler = grpc.unary_stream_rpc_method_handler(_watch, **_codec(sample.WATCH))
    return (
        grpc.method_handlers_generic_handler(echo.RULES, {sample.METHOD.name: echo_handler}),
        grpc.method_handlers_generic_handler(sample.STREAMS, {sample.WATCH.name: watch_handler}),
    )


def _codec(method: MethodDescriptor) -> Mapping[str, Callable[..., Any]]:
    return {
        "request_deserializer": GetMessageClass(method.input_type).FromString,
        "response_serializer": GetMessageClass(method.output_type).SerializeToString,
    }


def _channel(*backend: str) -> grpc.aio.Channel:
    """Return a channel to the backend at a port, or without one to a service in this process."""
    if backend:
        return grpc.aio.insecure_channel(f"{_HOST}:{backend[0]}")
    channel = InProcessChannel()
    channel.add_generic_rpc_handlers(_handlers())
    return channel


async def _serve_ours(*backend: str) -> None:
    bound = listen(Address(_HOST, 0))
    async with _channel(*backend) as channel:
        services = [sample.SERVICES[name] for name in (echo.RULES, sample.STREAMS)]
        transcoder = Transcoder(services, channel, options=Options(max_body_bytes=_LARGEST))
        # The router answers for the life span, of which a transcoder knows nothing.
        listener = HttpListener(Router(default=transcoder), bound, grace=1)
        await listener.start()
        gc.freeze()  # as the sidecar does
        await _announced(address_of(bound).port)
        await listener.stop()


async def _serve_backend() -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(_handlers())
    port = server.add_insecure_port(f"{_HOST}:0")
    await server.start()
    gc.freeze()
    await _announced(port)
    await server.stop(None)


async def _announced(port: int) -> None:
    """Print `port`, and return when the standard input ends."""
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)


_SERVERS: Mapping[str, Callable[..., Coroutine[Any, Any, None]]] = MappingProxyType(
    {"ours": _serve_ours, "backend": _serve_backend}
)

if __name__ == "__main__":
    uvloop.run(_SERVERS[sys.argv[1]](*sys.argv[2:]))
