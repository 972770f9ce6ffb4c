"""Tests of the schema: the generated code is current, and our rules for schemas hold."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from google.api import annotations_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf import descriptor_pb2
from google.protobuf.message import Message
from karmo.auth.v1 import token_service_pb2

from tests.sidecar_process import BIN, ROOT, Ended, run

# The folders of generated code, by the variable of the Makefile.
GENERATED = {
    "OUT": ROOT / "generated",
    "CLIENT": ROOT / "clients/python/src/karmo_auth_client/generated",
}
# The set-up links Google's packages beside them.
PROTOS = sorted(
    path.relative_to(ROOT / "proto") for path in (ROOT / "proto/karmo").rglob("*.proto")
)
# The commands of `make check`, as typed.
RECIPES = [line.strip() for line in (ROOT / "Makefile").read_text("utf-8").splitlines()]
BUF = [line for line in RECIPES if line.startswith("buf ") and "--write" not in line]

Location = tuple[int, ...]


def files(folder: Path) -> dict[str, bytes]:
    """Return the files in `folder` by path, without compiled Python."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


async def test_generated_code_is_current(tmp_path: Path) -> None:
    """`make generate` gives the committed files, byte for byte."""
    # Without the set-up: a test must not install packages.
    make = ("make", "--old-file=.venv/complete", "generate")
    outputs = {name: tmp_path / name for name in GENERATED}
    end = await run(
        *make, *(f"{name}={path}" for name, path in outputs.items()), env={"MAKEFLAGS": ""}
    )
    assert end.status == 0, end.stderr
    for name, folder in GENERATED.items():
        generated, committed = files(outputs[name]), files(folder)
        assert sorted(generated) == sorted(committed)
        assert [path for path in generated if generated[path] != committed[path]] == []


def test_descriptors_explain_errors() -> None:
    """The descriptor set has our files and the error details, for `grpcurl -protoset`."""
    data = (GENERATED["OUT"] / "karmo/descriptors.binpb").read_bytes()
    held = {file.name for file in descriptor_pb2.FileDescriptorSet.FromString(data).file}
    assert held >= {"google/rpc/error_details.proto", *map(str, PROTOS)}


def test_http_rule_is_the_contract() -> None:
    """The token exchange is POST /v1/oauth/token, with the whole request in the body."""
    method = token_service_pb2.DESCRIPTOR.services_by_name["TokenService"].methods[0]
    rule = method.GetOptions().Extensions[
        cast("Any", annotations_pb2.http)
    ]  # its stub has no types
    assert rule == HttpRule(post="/v1/oauth/token", body="*")


@pytest_asyncio.fixture(scope="module", name="sources")
async def _sources(tmp_path_factory: pytest.TempPathFactory) -> descriptor_pb2.FileDescriptorSet:
    """Compile our schema with source locations and comments."""
    image = tmp_path_factory.mktemp("sources") / "image.binpb"
    protoc = (BIN / "python", "-m", "grpc_tools.protoc", "-Iproto", "--include_source_info")
    end = await run(*protoc, f"--descriptor_set_out={image}", *PROTOS)
    assert end.status == 0, end.stderr
    return descriptor_pb2.FileDescriptorSet.FromString(image.read_bytes())


ELEMENTS = {
    "DescriptorProto",
    "FieldDescriptorProto",
    "OneofDescriptorProto",
    "EnumDescriptorProto",
    "EnumValueDescriptorProto",
    "ServiceDescriptorProto",
    "MethodDescriptorProto",
}


def elements(parent: Message, path: Location = ()) -> Iterator[tuple[Location, Any]]:
    """Yield every element inside `parent` with its path in the source info."""
    for field, value in parent.ListFields():
        if field.message_type is not None and field.message_type.name in ELEMENTS:
            for index, child in enumerate(value):
                here = (*path, field.number, index)
                yield here, child
                yield from elements(child, here)


def locations(file: descriptor_pb2.FileDescriptorProto) -> dict[Location, str]:
    """Return the comment, maybe empty, of every element in `file`."""
    locations = file.source_code_info.location
    return {tuple(location.path): location.leading_comments for location in locations}


def test_every_element_has_a_comment(sources: descriptor_pb2.FileDescriptorSet) -> None:
    """Each message, field, enum, value, service, method and file has a comment."""
    package: Location = (descriptor_pb2.FileDescriptorProto.PACKAGE_FIELD_NUMBER,)
    bare = []
    for file in sources.file:
        comments = locations(file)
        names = {package: file.name} | {path: element.name for path, element in elements(file)}
        # An element without a location is the compiler's, such as the oneof of an optional field.
        bare += [name for path, name in names.items() if comments.get(path) == ""]
    assert bare == []


def test_every_json_name_is_chosen(sources: descriptor_pb2.FileDescriptorSet) -> None:
    """Every field of two words sets its JSON name; the compiler would drop the `_`."""
    json_name = descriptor_pb2.FieldDescriptorProto.JSON_NAME_FIELD_NUMBER
    left = [
        element.name
        for file in sources.file
        for path, element in elements(file)
        if isinstance(element, descriptor_pb2.FieldDescriptorProto)
        and "_" in element.name
        and (*path, json_name) not in locations(file)
    ]
    assert left == [], 'say [json_name = "..."] for each'


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return the home of a user who never ran buf."""
    home = tmp_path / "home"
    home.mkdir()
    return home


async def buf(command: str, home: Path, cwd: Path = ROOT) -> Ended:
    """Run a command of buf as typed."""
    env = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(home)}
    return await run("bash", "-c", command, env=env, cwd=cwd)


@pytest.mark.parametrize("command", BUF)
async def test_buf_is_content(command: str, home: Path) -> None:
    """Each check of buf passes, run from the root of the repository."""
    end = await buf(command, home)
    assert end == Ended(status=0, stdout="", stderr="")


async def test_buf_sees_a_break(tmp_path: Path, home: Path) -> None:
    """A changed field number fails the check against the last release."""
    (command,) = (command for command in BUF if command.startswith("buf breaking"))
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "proto", copy / "proto")
    shutil.copy(ROOT / "buf.yaml", copy)
    changed = copy / "proto/karmo/auth/v1/token_service.proto"
    text = changed.read_text("utf-8")
    changed.write_text(text.replace("string client_id = 2 ", "string client_id = 7 "), "utf-8")
    end = await buf(command, home, copy)
    assert end.status == 100, end
    assert 'present field "2" with name "client_id"' in end.stdout + end.stderr


def test_buf_has_three_checks() -> None:
    """`make check` lints, compares the format, and looks for breaks."""
    assert sorted(command.split()[1] for command in BUF) == ["breaking", "format", "lint"]
