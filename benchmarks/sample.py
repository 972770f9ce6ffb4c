"""Messages of the benchmarks: lists and streams of volumes, with some of everything, as JSON."""

import json
from typing import Any

from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.transcoding import echo, library

STREAMS = f"{library.PACKAGE}.Streams"


def _image() -> FileDescriptorSet:
    """Return the schema of the tests, and a service with a stream of volumes."""
    image = FileDescriptorSet()
    image.CopyFrom(echo.IMAGE)
    rule = HttpRule(get="/v1/watch/{name}")
    watch = library.method("Watch", rule, gives="Volume", streams="server")
    image.file[-1].service.add(name="Streams", method=[watch])
    return image


IMAGE = _image()
SERVICES = {service.full_name: service for service in library.services_in(IMAGE)}
METHOD, PATH = SERVICES[echo.RULES].methods_by_name["CreateVolumes"], "/v1/volumes"
WATCH = SERVICES[STREAMS].methods_by_name["Watch"]
# How many volumes are in a list: JSON of nearly 0.2, 2, 20 and 200 KiB.
SIZES = (1, 8, 80, 800)
# Any: the messages are made at run time.
MESSAGE: Any = GetMessageClass(METHOD.input_type)


def make(volumes: int) -> Message:
    """Return a list of so many volumes, each another one."""
    made: Message = MESSAGE(volumes=[_volume(number) for number in range(volumes)])
    return made


def encode(message: Message) -> bytes:
    """Return `message` in the JSON of protobuf's own library."""
    text = MessageToJson(
        message, indent=None, ensure_ascii=False, always_print_fields_with_no_presence=True
    )
    return text.encode()


def body_of(volumes: int) -> bytes:
    """Return the JSON of a list of so many volumes, without spaces."""
    tree = json.loads(encode(make(volumes)))
    return json.dumps(tree, ensure_ascii=False, separators=(",", ":")).encode()


def _volume(number: int) -> dict[str, object]:
    return {
        "name": f"volumes/{number}",
        "title": f"Gęślą jaźń, {number}",
        "pages": 100 + number,
        "copies": 2**53 + number,
        "price": 12.5 + number / 8,
        "lent": number % 2 == 0,
        "mood": number % 3,
        "shelf": {"name": f"shelves/{number}"},
        "tags": ["new"],
        "printed": {"seconds": 1_700_000_000 + number, "nanos": 500_000_000},
    }
