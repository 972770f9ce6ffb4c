"""Calling: clients that go away, and deadlines that pass."""

import asyncio
import json
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from sidecar.transcoding import Transcoder
from tests.channels import Open, in_process, over_a_socket
from tests.transcoding.asgi import GUARD, Exchange, Wire, with_body
from tests.transcoding.serving import (
    FORM,
    LIBRARY,
    Context,
    Receipt,
    Serve,
    echo,
    handler_of,
    refuse,
    render,
    told,
)

# Clients that go away


@pytest.mark.parametrize("chunks", [(), (b"name=a",)], ids=["before the body", "within it"])
async def test_client_leaves_while_it_sends(serve: Serve, chunks: tuple[bytes, ...]) -> None:
    """Who leaves before the body is complete gets no answer, and makes no call."""
    headers = [("Content-Type", FORM), ("Content-Length", "10")]
    wire = Wire(Exchange(headers=headers, chunks=chunks, is_complete=False))
    wire.disconnect()
    await wire.serve(await serve(refuse))
    assert wire.sent == []


class Waiting:
    """A handler that waits, and tells what becomes of it."""

    def __init__(self) -> None:
        self.called = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.freed = asyncio.Event()

    async def wait(self, request: Any, context: Context) -> Message:
        """Wait until `freed`."""
        self.called.set()
        try:
            await self.freed.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return await echo(request, context)


async def test_client_leaves_during_the_call(serve: Serve) -> None:
    """Who leaves while the call runs gets no answer, and the handler sees its cancellation."""
    handler, wire = Waiting(), Wire(with_body(b"name=a", FORM))
    task = asyncio.create_task(wire.serve(await serve(handler.wait)))
    async with asyncio.timeout(GUARD):
        await handler.called.wait()
        wire.disconnect()
        await task
        await handler.cancelled.wait()
    assert wire.sent == []


async def test_server_stops_the_request(serve: Serve) -> None:
    """A server that cancels the request cancels the call, and sees its own cancellation."""
    handler, wire = Waiting(), Wire(with_body(b"name=a", FORM))
    task = asyncio.create_task(wire.serve(await serve(handler.wait)))
    async with asyncio.timeout(GUARD):
        await handler.called.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await handler.cancelled.wait()
    assert wire.sent == []


async def test_slow_call(serve: Serve) -> None:
    """A client that waits gets its answer, and nobody listens to it any more."""
    handler, wire = Waiting(), Wire(with_body(b"name=a", FORM))
    task = asyncio.create_task(wire.serve(await serve(handler.wait)))
    async with asyncio.timeout(GUARD):
        await handler.called.wait()
        handler.freed.set()
        await task
        await wire.abandoned.wait()
    assert json.loads(wire.answer.body) == told(name="a")


@pytest.mark.parametrize("open_", [in_process, over_a_socket])
async def test_channel_is_closed_during_the_call(open_: Open) -> None:
    """A call that ends because its channel does is answered: its client is still there."""
    handler, wire = Waiting(), Wire(with_body(b"name=a", FORM))
    async with open_(handler_of(handler.wait, LIBRARY)) as channel:
        transcoder = Transcoder([LIBRARY], channel, render_error=render)
        task = asyncio.create_task(wire.serve(transcoder))
        async with asyncio.timeout(GUARD):
            await handler.called.wait()
            await channel.close()
            await task
    assert (wire.answer.status, json.loads(wire.answer.body)["code"]) == (503, 14)


async def test_response_that_is_no_message() -> None:
    """Bytes that are no message of the response's type are the service's fault."""
    handlers = grpc.method_handlers_generic_handler(
        LIBRARY.full_name, {"Open": grpc.unary_unary_rpc_method_handler(answer_bytes)}
    )
    async with over_a_socket(handlers) as channel:
        transcoder = Transcoder([LIBRARY], channel, render_error=render)
        answer = await with_body(b"{}").run(transcoder)
    assert (answer.status, json.loads(answer.body)["code"]) == (500, 13)


async def answer_bytes(_request: bytes, _context: object) -> bytes:
    """Answer with the beginning of a field."""
    return b"\x0a\x7f"


# Deadlines


async def tell_time(_request: Any, context: Context) -> Message:
    """Tell the time that is left, if it is limited at all."""
    remaining: float | None = context.time_remaining()
    return Receipt(lent=remaining is not None, pages=int(remaining or 0))


@pytest.mark.parametrize(
    ("sent", "limited", "most", "least"),
    [
        (None, False, 0, 0),
        # Over a socket grpcio rounds a timeout up, by less than one percent.
        ("100S", True, 101, 50),
        ("2H", True, 7272, 7100),
        ("30M", True, 1818, 1700),
    ],
)
async def test_timeout(
    serve: Serve, sent: str | None, limited: bool, most: int, least: int
) -> None:
    """The client's timeout becomes the deadline of the call, and without one there is none."""
    headers = [] if sent is None else [("Grpc-Timeout", sent)]
    answer = await with_body(b"{}", headers=headers).run(await serve(tell_time))
    receipt = json.loads(answer.body)
    assert receipt["lent"] is limited
    assert least <= receipt["pages"] <= most


async def test_the_longest_timeout(serve: Serve) -> None:
    """The longest timeout that can be written does no harm."""
    exchange = with_body(b"name=a", FORM, headers=[("grpc-timeout", "99999999H")])
    assert (await exchange.run(await serve())).status == 200


@pytest.mark.parametrize("sent", ["0S", "1n", "50m"])
async def test_deadline_passes(serve: Serve, sent: str) -> None:
    """A call whose deadline passes ends with its status."""
    exchange = with_body(b"{}", headers=[("grpc-timeout", sent)])
    answer = await exchange.run(await serve(Waiting().wait))
    assert (answer.status, json.loads(answer.body)) == (
        504,
        {"code": 4, "message": "", "details": []},
    )


@pytest.mark.parametrize("sent", ["0S", "1n"])
async def test_deadline_that_has_passed_already(serve: Serve, sent: str) -> None:
    """A request whose deadline has passed when it is complete makes no call."""
    exchange = with_body(b"{}", headers=[("grpc-timeout", sent)])
    assert (await exchange.run(await serve(refuse))).status == 504


@pytest.mark.parametrize("sent", ["0S", "1n", "50m"])
async def test_deadline_passes_before_the_request_is_complete(serve: Serve, sent: str) -> None:
    """A client that does not send its body by its own deadline is told so, and makes no call."""
    headers = [("Content-Type", FORM), ("Content-Length", "10"), ("grpc-timeout", sent)]
    exchange = Exchange(headers=headers, chunks=(b"name=a",), is_complete=False)
    answer = await exchange.run(await serve(refuse))
    assert (answer.status, json.loads(answer.body)) == (
        504,
        {"code": 4, "message": "", "details": []},
    )


# Channels that fail by themselves


@pytest.mark.parametrize("channel_to", [in_process, over_a_socket])
async def test_a_closed_channel(channel_to: Open) -> None:
    """A call that its closed channel refuses is UNAVAILABLE, without a text of the channel."""
    async with channel_to(handler_of(refuse, LIBRARY)) as channel:
        app = Transcoder([LIBRARY], channel, render_error=render)
        await channel.close()
    answer = await with_body(b"{}").run(app)
    body = json.loads(answer.body)
    assert (answer.status, body["code"], body["message"]) == (503, 14, "")


async def test_a_response_too_large_for_the_channel(caplog: pytest.LogCaptureFixture) -> None:
    """A response beyond the limit of the channel is our fault, and not a refusal of the service."""

    async def answer_much(_request: Any, _context: Context) -> Message:
        return Receipt(name="a" * 5 * 1024 * 1024)  # gRPC's own limit is 4 MiB

    async with over_a_socket(handler_of(answer_much, LIBRARY)) as channel:
        answer = await with_body(b"{}").run(Transcoder([LIBRARY], channel, render_error=render))
    body = json.loads(answer.body)
    assert (answer.status, body["code"], body["message"]) == (500, 13, "")
    assert "it is larger than the channel accepts" in caplog.text


async def test_a_service_without_resources() -> None:
    """A service that refuses by RESOURCE_EXHAUSTED is told with its own text."""

    async def have_none(_request: Any, context: Context) -> Message:
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no more shelves")

    async with over_a_socket(handler_of(have_none, LIBRARY)) as channel:
        answer = await with_body(b"{}").run(Transcoder([LIBRARY], channel, render_error=render))
    assert (answer.status, json.loads(answer.body)["message"]) == (429, "no more shelves")
