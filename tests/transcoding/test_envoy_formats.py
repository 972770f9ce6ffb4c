"""Formats of JSON beside Envoy: its print options, and ours that a service gets instead."""

import json
from collections.abc import Mapping
from typing import Any

import grpc
import httpx2
import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from sidecar.transcoding import JsonFormat, Options, Transcoder
from tests.transcoding.asgi import with_body
from tests.transcoding.envoy import envoy
from tests.transcoding.library import descriptor, image, method, post, service
from tests.transcoding.serving import Context, handler_of

METHODS = (method("Give", post("/v1/give"), gives="Book"),)
GIVING = service(*METHODS)
Book = GetMessageClass(descriptor("Book", GIVING))
# From print options of Envoy to our format.
# https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/extensions/filters/http/grpc_json_transcoder/v3/transcoder.proto
FORMATS: Mapping[tuple[str, ...], JsonFormat] = {
    (): JsonFormat(omit_defaults=True),
    ("always_print_primitive_fields",): JsonFormat(),
    ("always_print_enums_as_ints", "preserve_proto_field_names"): JsonFormat(
        enum_numbers=True, proto_names=True, omit_defaults=True
    ),
}
MESSAGES: tuple[dict[str, Any], ...] = (
    {},
    {"shelf": {}, "scalars": {}, "optionals": {}, "lists": {}, "maps": {}, "choice": {}},
    {"optionals": {"an_int32": 0, "a_string": "", "a_mood": 0, "an_int64": 0}},
    {"mood": 2, "copies": 2**60, "shelf": {"shelf_code": "a"}, "by_name": {"k": {}}},
    {"lists": {"moods": [0, 1, 7], "int64s": [1], "strings": [""], "shelves": [{}]}},
    {"maps": {"bools": {True: 2, False: 0}, "int32s": {0: 0}, "shelves": {"": {}}}},
    {"scalars": {"a_double": -0.0, "a_float": 0.5, "a_bytes": b"a", "a_mood": 1, "a_bool": True}},
    {"choice": {"by_code": 0}},
    {"choice": {"by_nothing": 0}},
    {"known": {"an_int64": {"value": 0}, "a_string": {}, "a_mask": {"paths": ["shelf_code"]}}},
    {"printed": {"seconds": 0}, "tree": {"left": {"name": ""}}},
)


async def give(request: Any, _context: Context) -> Message:
    """Return the message of this number."""
    return Book(**MESSAGES[int(request.name)])


@pytest.mark.parametrize("options", FORMATS, ids=repr)
async def test_beside_envoy(options: tuple[str, ...]) -> None:
    """By its print options Envoy writes the JSON that a service has in our format."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handler_of(give, GIVING),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    printing = dict.fromkeys(options, True)
    try:
        async with (
            envoy(image(*METHODS), [GIVING.full_name], port, print_options=printing) as address,
            httpx2.AsyncClient(base_url=f"http://{address}", trust_env=False) as client,
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            ours = Transcoder([GIVING], channel, options=Options(json_format=FORMATS[options]))
            for number in range(len(MESSAGES)):
                body = json.dumps({"name": str(number)}).encode()
                theirs = await client.post("/v1/give", content=body)
                own = await with_body(body, path="/v1/give").run(ours)
                assert (number, json.loads(own.body)) == (number, theirs.json())
    finally:
        await server.stop(None)
