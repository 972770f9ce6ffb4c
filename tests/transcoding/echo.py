"""The services of library_service.proto, and a backend of theirs that shows what reached it."""

from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.transcoding import library

# What Envoy serves too, and what it refuses to serve.
RULES, PARTS = f"{library.PACKAGE}.Rules", f"{library.PACKAGE}.Parts"
IMAGE = FileDescriptorSet.FromString(library.compiled("library_service.proto"))
# The methods that answer with content instead of JSON.
CONTENT = frozenset({"Upload", "ExchangeDocument", "Download"})
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    for file in IMAGE.file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


_POOL = _pool()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call that was answered: the name of its method, and its request as JSON."""

    method: str
    message: object


def find_service(name: str) -> ServiceDescriptor:
    """Return the service of that full name."""
    return _POOL.FindServiceByName(name)


def find_method(name: str) -> MethodDescriptor:
    """Return the method of that name, which only one of the services has."""
    methods = (find_service(service).methods_by_name for service in (RULES, PARTS))
    return next(found[name] for found in methods if name in found)


def to_json(message: Message) -> object:
    """Return `message` in the JSON of protobuf's own library, fields without presence included."""
    return json_format.MessageToDict(
        message, always_print_fields_with_no_presence=True, descriptor_pool=_POOL
    )


def complete(method: str, message: Any) -> object:
    """Return the request of `method` that `message` is as JSON, with what goes without saying."""
    made = GetMessageClass(find_method(method).input_type)()
    return to_json(json_format.ParseDict(message, made, descriptor_pool=_POOL))


class Echo(grpc.GenericRpcHandler):
    """Answers every call with its request, and keeps what it answered in `calls`."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        """Return what serves any method."""
        method = find_method(handler_call_details.method.rpartition("/")[2])

        async def answer(request: Any, context: "grpc.aio.ServicerContext[Any, Any]") -> Message:
            if method.name == "Fail":
                await context.abort(_CODES[request.an_int32], "as was asked for")
            self.calls.append(Call(method=method.name, message=to_json(request)))
            return _download(request, method) if method.name == "Download" else request

        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )


def _download(request: Any, method: MethodDescriptor) -> Message:
    body = GetMessageClass(method.output_type)
    return body(content_type=request.name, data=request.theme.encode())
