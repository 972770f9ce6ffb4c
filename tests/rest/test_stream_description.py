"""Streams that fail, as the OpenAPI document describes them."""

import json
from typing import Any

import pytest
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.transcoding import Options
from tests.faults.wire import reset
from tests.rest.streaming import SERVICE, ask, serving
from tests.transcoding.openapi.described import document_of, violations
from tests.transcoding.streams.event_stream import read_events


@pytest.fixture(scope="module", name="api")
def _describe() -> dict[str, Any]:
    """Return the document of the streams, with the problems of the product."""
    return document_of({SERVICE: Options()}, errors=[pb.ProblemDetails.DESCRIPTOR])


def values_in(body: bytes, media_type: str) -> list[Any]:
    """Return what the schema of a media type is for: the whole array, each line, or each event."""
    if media_type == "application/json":
        return [json.loads(body)]
    if media_type == "text/event-stream":
        return [json.loads(event.data) for event in read_events(body)]
    return [json.loads(line) for line in body.splitlines()]


@pytest.mark.parametrize(
    "media_type", ["application/json", "application/x-ndjson", "text/event-stream"]
)
async def test_a_stream_that_fails_is_as_described(api: dict[str, Any], media_type: str) -> None:
    """The messages and the problem of a failed stream are values of its schema, and only these."""
    async with serving() as scene:
        client = await scene.connect(ask("/v1/watch/fail", f"Accept: {media_type}".encode()))
        body = b"".join(await client.chunks())
        reset(client.writer)
    content = api["paths"]["/v1/watch/{name}"]["get"]["responses"]["200"]["content"]
    schema = content[media_type]["schema"]
    values = values_in(body, media_type)
    assert [violations(api, schema, value) for value in values] == [[]] * len(values)
    other = {"no": "message"}
    assert violations(api, schema, [other] if media_type == "application/json" else other) != []
