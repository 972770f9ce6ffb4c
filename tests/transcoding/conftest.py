"""What the tests of the transcoder share: transcoders over both kinds of channel."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from google.protobuf.descriptor import ServiceDescriptor

from sidecar.transcoding import Options, Transcoder
from tests.channels import in_process, over_a_socket
from tests.transcoding.serving import LIBRARY, Behavior, Serve, echo, handler_of, render


@pytest.fixture(params=[in_process, over_a_socket], ids=["in process", "socket"])
async def serve(request: pytest.FixtureRequest) -> AsyncIterator[Serve]:
    """Make transcoders over channels of one kind, which are closed after the test."""
    async with AsyncExitStack() as stack:

        async def make(
            behavior: Behavior = echo, *, library: ServiceDescriptor = LIBRARY, **options: Any
        ) -> Transcoder:
            handler = handler_of(behavior, library)
            channel = await stack.enter_async_context(request.param(handler))
            chosen = Options(**options)
            return Transcoder([library], channel, options=chosen, render_error=render)

        yield make
