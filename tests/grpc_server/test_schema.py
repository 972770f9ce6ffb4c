"""Tests of the schema of reflection: each symbol has its file, and each file its imports."""

from collections.abc import Sequence
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from grpc_health.v1 import health_pb2

from sidecar.api import SERVICES
from sidecar.grpc_server.schema import Schema, read_published
from tests.grpc_server.described import DURATION, FILE, SYMBOLS, compiled, pool_of

# Its stub names the type of descriptors by its implementation.
HEALTH: Any = health_pb2.DESCRIPTOR.services_by_name["Health"]


@pytest.fixture(scope="module", name="published")
def _published(tmp_path_factory: pytest.TempPathFactory) -> FileDescriptorSet:
    return compiled(tmp_path_factory.mktemp("described"))


@pytest.fixture(scope="module", name="schema")
def _schema(published: FileDescriptorSet) -> Schema:
    return Schema([HEALTH], published)


def names_of(files: Sequence[bytes]) -> list[str]:
    """Return the names of serialized files."""
    return [FileDescriptorProto.FromString(file).name for file in files]


@pytest.mark.parametrize("symbol", SYMBOLS.values(), ids=SYMBOLS)
def test_every_kind_of_symbol_has_its_file(schema: Schema, symbol: str) -> None:
    """A symbol of each kind is found by its full name."""
    assert schema.symbols[symbol] == FILE


def test_nothing_else_is_a_symbol(schema: Schema) -> None:
    """The symbols of a file are exactly its elements."""
    more = {
        "described.v1.Outer.ByNameEntry.value",
        "described.v1.Outer.by_name",
        "described.v1.Outer.other",
        "described.v1.Outer.Nested.NESTED_NONE",
    }
    found = {symbol for symbol, file in schema.symbols.items() if file == FILE}
    assert found == more | set(SYMBOLS.values())


def test_a_file_without_a_package_is_indexed() -> None:
    """Symbols of a file without a package have no prefix."""
    file = FileDescriptorProto(name="bare.proto", message_type=[DescriptorProto(name="Bare")])
    assert Schema([], FileDescriptorSet(file=[file])).symbols == {"Bare": "bare.proto"}


def test_extensions_are_found_by_message_and_number(schema: Schema) -> None:
    """Every message has its extensions, which may be none."""
    assert schema.extensions["described.v1.Outer"] == {100: FILE, 101: FILE}
    assert schema.extensions["described.v1.Outer.Inner"] == {}
    assert "described.v1.Level" not in schema.extensions


def test_imports_are_returned_once(schema: Schema) -> None:
    """A file comes with the imports that were not sent; it comes again itself if asked again."""
    sent: set[str] = set()
    assert names_of(schema.files_for(FILE, sent)) == [FILE, DURATION]
    assert names_of(schema.files_for(FILE, sent)) == [FILE]
    assert sent == {FILE, DURATION}
    assert names_of(schema.files_for(FILE, {DURATION})) == [FILE]
    with pytest.raises(KeyError):
        schema.files_for("none.proto", sent)


def test_services_bring_their_files(schema: Schema) -> None:
    """A service that is not in the published schema is described too."""
    assert schema.services == ("grpc.health.v1.Health",)
    assert schema.symbols["grpc.health.v1.Health.Check"] == HEALTH.file.name


def test_comments_are_kept(schema: Schema, published: FileDescriptorSet) -> None:
    """The files are those that are published, with the comments that these have."""
    assert schema.files[FILE] == published.file[-1].SerializeToString()
    assert b"A method with a comment." in schema.files[FILE]


def test_every_published_file_can_be_loaded() -> None:
    """Each file of our schema comes with all that it needs, and has the served services."""
    schema = Schema(list(SERVICES), read_published())
    for name in schema.files:
        assert pool_of(schema.files_for(name, set())).FindFileByName(name).name == name
    assert {service.full_name for service in SERVICES} <= schema.symbols.keys()
