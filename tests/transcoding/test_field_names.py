"""Fields that have the names of methods and attributes of protobuf's messages, and of Python."""

import json
from typing import Any

import pytest
from google.api import annotations_pb2, http_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf import any_pb2, descriptor_pb2
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from sidecar.transcoding import Transcoder
from tests.channels import Open, in_process, over_a_socket
from tests.transcoding.asgi import Exchange, with_body
from tests.transcoding.library import post
from tests.transcoding.serving import Context, handler_of

# Every public name of a message, and those of Python that a constructor or `getattr` could confuse.
NAMES = sorted(
    {name for name in dir(any_pb2.Any) if name.isidentifier()}
    | {"self", "cls", "class", "None", "True", "args", "kwargs", "arguments", "message", "type"}
)


@pytest.fixture(name="service", scope="module", params=["proto2", "proto3"])
def _service(request: pytest.FixtureRequest) -> ServiceDescriptor:
    """Return a service whose messages have a field by each of NAMES, and one of their own type."""
    file = FileDescriptorProto(name="odd.proto", package="odd.v1", syntax=request.param)
    file.dependency.extend([annotations_pb2.DESCRIPTOR.name, any_pb2.DESCRIPTOR.name])
    odd = file.message_type.add(name="Odd")
    kinds = FieldDescriptorProto
    for number, name in enumerate(NAMES, 1):
        odd.field.add(
            name=name,
            json_name=name,
            number=number,
            type=kinds.TYPE_STRING,
            label=kinds.LABEL_OPTIONAL,
        )
    for number, (name, type_) in enumerate(
        {"inner": ".odd.v1.Odd", "packed": ".google.protobuf.Any"}.items(), 1000
    ):
        odd.field.add(
            name=name,
            json_name=name,
            number=number,
            type=kinds.TYPE_MESSAGE,
            type_name=type_,
            label=kinds.LABEL_OPTIONAL,
        )
    called = file.service.add(name="Service").method.add(
        name="Echo", input_type=".odd.v1.Odd", output_type=".odd.v1.Odd"
    )
    rule = post("/v1/odd")
    rule.additional_bindings.append(HttpRule(get="/v1/odd/{IsInitialized}"))
    rule.additional_bindings.append(HttpRule(post="/v1/in/{inner.HasField}", body="packed"))
    extension: Any = annotations_pb2.http
    called.options.Extensions[extension].CopyFrom(rule)
    pool = DescriptorPool()
    for known in (descriptor_pb2, any_pb2, http_pb2, annotations_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindServiceByName("odd.v1.Service")


async def echo(request: Any, _context: Context) -> Message:
    """Answer with what was asked."""
    made: Message = request
    return made


REQUESTS = {
    "in a body": (
        with_body(json.dumps(every := dict.fromkeys(NAMES, "x")).encode(), path="/v1/odd"),
        every,
    ),
    "in an inner message": (
        with_body(json.dumps({"inner": every}).encode(), path="/v1/odd"),
        {"inner": every},
    ),
    "in an Any": (
        with_body(
            json.dumps(packed := {"@type": "a/odd.v1.Odd"} | every).encode(), path="/v1/in/x"
        ),
        {"inner": {"HasField": "x"}, "packed": packed},
    ),
    "in a path and a query": (
        Exchange(method="GET", path="/v1/odd/x", query=b"ListFields=y&inner.SerializeToString=z"),
        {"IsInitialized": "x", "ListFields": "y", "inner": {"SerializeToString": "z"}},
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("channel_to", [in_process, over_a_socket])
async def test_every_name(service: ServiceDescriptor, channel_to: Open, name: str) -> None:
    """A field of any name is read and written, whatever else in the runtime has that name."""
    exchange, expected = REQUESTS[name]
    async with channel_to(handler_of(echo, service)) as channel:
        answer = await exchange.run(Transcoder([service], channel))
    written = json.loads(answer.body)
    assert answer.status == 200
    assert _without_defaults(written) == expected


async def test_every_name_in_a_detail(service: ServiceDescriptor) -> None:
    """A detail of an error is told, whatever the names of its fields."""
    type_ = GetMessageClass(service.methods[0].input_type)
    value = type_.SerializeToString(type_(**every))

    async def fail(_request: Any, context: Context) -> Message:
        status = Status(code=9)
        status.details.add(type_url="a/odd.v1.Odd", value=value)
        await context.abort_with_status(rpc_status.to_status(status))
        raise AssertionError

    async with in_process(handler_of(fail, service)) as channel:
        answer = await with_body(b"{}", path="/v1/odd").run(Transcoder([service], channel))
    assert json.loads(answer.body)["details"] == [packed]


def _without_defaults(tree: Any) -> Any:
    """Leave out what is written of unset fields in proto3."""
    if not isinstance(tree, dict):
        return tree
    return {name: _without_defaults(value) for name, value in tree.items() if value != ""}


def test_the_names_are_those_of_the_runtime() -> None:
    """The names include those that were called on messages when they were fields."""
    assert {"IsInitialized", "HasField", "ListFields", "SerializeToString", "DESCRIPTOR"} <= set(
        NAMES
    )
    assert hasattr(GetMessageClass(any_pb2.Any.DESCRIPTOR), "IsInitialized")
