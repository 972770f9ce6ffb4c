"""The limit of metadata, around a small handler behind a real server."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.interceptors.error_boundary import ErrorBoundary
from sidecar.interceptors.metadata_limit import MetadataLimit
from tests.in_process.test_channel import Method, method_of, open_socket, serving
from tests.interceptors.test_error_boundary import HI, assert_problem, failure_of
from tests.ways import PUBLIC_URL

SENT = (("x-text", "a" * 100), ("x-bin", b"\xff" * 100))


class Sizes:
    """A handler that keeps how large the metadata of each call is, as RFC 9113 counts."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    async def handle(self, request: StringValue, context: Any) -> StringValue:
        """Return the request."""
        fields: Sequence[tuple[str, str | bytes]] = context.invocation_metadata()
        self.seen.append(sum(len(key) + len(value) + 32 for key, value in fields))
        return request


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """Give what is closed after the test."""
    async with AsyncExitStack() as entered:
        yield entered


async def method_within(stack: AsyncExitStack, most: int, sizes: Sizes) -> Method:
    """Return the method that `sizes` serves, of which a call may have `most` bytes of metadata."""
    interceptors: Sequence[grpc.aio.ServerInterceptor]
    interceptors = (ErrorBoundary(PUBLIC_URL), MetadataLimit(most))
    return method_of(await open_socket(stack, serving(Call=sizes.handle), interceptors))


async def test_metadata_as_large_as_allowed_is_taken(stack: AsyncExitStack) -> None:
    """The largest metadata is served; of one byte less allowed, it is refused unhandled."""
    sizes = Sizes()
    await (await method_within(stack, 10_000, sizes))(HI, metadata=SENT)
    (size,) = sizes.seen
    assert (await (await method_within(stack, size, sizes))(HI, metadata=SENT)).value == "hi"
    outcome = await failure_of((await method_within(stack, size - 1, sizes))(HI, metadata=SENT))
    assert_problem(outcome, pb.PROBLEM_REASON_HEADER_FIELDS_TOO_LARGE)
    assert outcome.problem is not None
    assert outcome.problem["detail"] == f"The metadata must not be larger than {size - 1} bytes."
    assert sizes.seen == [size, size]


async def test_what_is_not_served_is_still_told_so(stack: AsyncExitStack) -> None:
    """A call of an unknown method, with metadata that is not too large, is told that."""
    sizes = Sizes()
    known = await method_within(stack, 10_000, sizes)
    assert (await known(HI)).value == "hi"
    channel = await open_socket(
        stack, serving(), (ErrorBoundary(PUBLIC_URL), MetadataLimit(10_000))
    )
    assert_problem(await failure_of(method_of(channel)(HI)), pb.PROBLEM_REASON_NOT_FOUND)
