"""Tests of the generated modules of the Python client, which a builder of its own fills."""

import importlib

import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from karmo_auth_client._builder import BuildTopDescriptorsAndMessages
from karmo_auth_client._pool import _OwnPool
from tests.sidecar_process import ROOT

MODULES = [
    ".".join(path.relative_to(ROOT / "generated").with_suffix("").parts)
    for path in sorted((ROOT / "generated").rglob("*_pb2.py"))
]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_has_the_names_of_the_servers(name: str) -> None:
    """A generated module of the client has the names of the server's, and its own messages."""
    server = vars(importlib.import_module(name))
    client = vars(importlib.import_module(f"karmo_auth_client.generated.{name}"))
    assert client.keys() == server.keys()
    for kind in client.values():
        if isinstance(kind, type) and issubclass(kind, Message):
            assert kind.__module__ == f"karmo_auth_client.generated.{name}"
            assert kind is not server[kind.__name__]


def test_there_are_modules() -> None:
    """The test above is not empty."""
    assert len(MODULES) >= 2


def test_nested_messages() -> None:
    """A message has its nested messages and enums as attributes, and is not that of Google."""
    names: dict[str, type[error_details_pb2.BadRequest]] = {}
    file = _OwnPool().AddSerializedFile(error_details_pb2.DESCRIPTOR.serialized_pb)
    BuildTopDescriptorsAndMessages(file, "test", names)
    message = names["BadRequest"]
    assert message is not error_details_pb2.BadRequest
    violation = message.FieldViolation(field="client_id")
    assert message(field_violations=[violation]).field_violations[0].field == "client_id"
