"""The reflection service, in both of its versions, by which tools read the schema.

The versions differ in the names of the package and the file alone; messages have the same form
in bytes. grpcio-reflection has v1alpha, whose messages serve for both.
"""

from collections.abc import AsyncIterable, Mapping
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2 as pb

from sidecar.grpc_server.schema import Schema

_METHOD = "ServerReflectionInfo"
_SERVICE = "ServerReflection"
# Their stubs name the type of descriptors by its implementation.
_V1ALPHA: Any = pb.DESCRIPTOR
_UNKNOWN_FILE = "The server has no such file. Ask for the file of a symbol instead."
_UNKNOWN_SYMBOL = (
    "The server has no such symbol. Give its full name, such as <package>.<message>, "
    "<package>.<service> or <package>.<service>.<method>."
)
_UNKNOWN_EXTENSION = "The server has no extension of this number of this message."
_UNKNOWN_MESSAGE = "The server has no such message. Give its full name: <package>.<message>."
_NO_QUESTION = "The request asks nothing that this server knows."


def _derive_v1() -> ServiceDescriptor:
    """Return the service of v1: that of v1alpha with the names of v1."""
    file = FileDescriptorProto.FromString(_V1ALPHA.serialized_pb)
    old, new = f".{file.package}.", ".grpc.reflection.v1."
    file.name = "grpc/reflection/v1/reflection.proto"
    file.package = new.strip(".")
    file.ClearField("options")  # they say that v1alpha is deprecated, and name its other packages
    for message in file.message_type:
        for field in message.field:
            if field.HasField("type_name"):
                field.type_name = field.type_name.replace(old, new)
    for service in file.service:
        for method in service.method:
            method.input_type = method.input_type.replace(old, new)
            method.output_type = method.output_type.replace(old, new)
    pool = DescriptorPool()  # of its own: a library may add the same file to the common one
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindServiceByName(f"{file.package}.{_SERVICE}")


# Both versions, the current one first.
SERVICES: tuple[ServiceDescriptor, ...] = (
    _derive_v1(),
    _V1ALPHA.services_by_name[_SERVICE],
)


class Reflection:
    """Answers questions about `schema`."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._services = pb.ListServiceResponse(
            service=[pb.ServiceResponse(name=name) for name in schema.services]
        )

    def add_to(self, server: grpc.aio.Server) -> None:
        """Serve both versions on `server`."""
        handler = grpc.stream_stream_rpc_method_handler(
            self._serve,
            pb.ServerReflectionRequest.FromString,
            pb.ServerReflectionResponse.SerializeToString,
        )
        for service in SERVICES:
            generic = grpc.method_handlers_generic_handler(service.full_name, {_METHOD: handler})
            server.add_generic_rpc_handlers((generic,))

    async def _serve(
        self,
        requests: AsyncIterable[pb.ServerReflectionRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> None:
        sent: set[str] = set()  # on this stream, which bounds it by the files of the schema
        async for request in requests:
            response = pb.ServerReflectionResponse(
                valid_host=request.host, original_request=request, **self._answer(request, sent)
            )
            await context.write(response)

    def _answer(self, request: pb.ServerReflectionRequest, sent: set[str]) -> Mapping[str, Any]:
        """Return the member of the response that answers `request`."""
        schema = self._schema
        match request.WhichOneof("message_request"):
            case "list_services":
                return {"list_services_response": self._services}
            case "file_by_filename":
                return self._files(request.file_by_filename, sent, _UNKNOWN_FILE)
            case "file_containing_symbol":
                file = schema.symbols.get(request.file_containing_symbol, "")
                return self._files(file, sent, _UNKNOWN_SYMBOL)
            case "file_containing_extension":
                wanted = request.file_containing_extension
                extensions = schema.extensions.get(wanted.containing_type, {})
                file = extensions.get(wanted.extension_number, "")
                return self._files(file, sent, _UNKNOWN_EXTENSION)
            case "all_extension_numbers_of_type":
                return self._extension_numbers(request.all_extension_numbers_of_type)
            case _:
                return _error(grpc.StatusCode.INVALID_ARGUMENT, _NO_QUESTION)

    def _files(self, name: str, sent: set[str], problem: str) -> Mapping[str, Any]:
        if name not in self._schema.files:
            return _error(grpc.StatusCode.NOT_FOUND, problem)
        files = self._schema.files_for(name, sent)
        return {"file_descriptor_response": pb.FileDescriptorResponse(file_descriptor_proto=files)}

    def _extension_numbers(self, message: str) -> Mapping[str, Any]:
        extensions = self._schema.extensions.get(message)
        if extensions is None:
            return _error(grpc.StatusCode.NOT_FOUND, _UNKNOWN_MESSAGE)
        numbers = pb.ExtensionNumberResponse(
            base_type_name=message, extension_number=sorted(extensions)
        )
        return {"all_extension_numbers_response": numbers}


def _error(code: grpc.StatusCode, problem: str) -> Mapping[str, Any]:
    error = pb.ErrorResponse(error_code=code.value[0], error_message=problem)
    return {"error_response": error}
