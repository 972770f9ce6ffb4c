"""The layers of the house: imports point down only, and each library has the one user it is for."""

import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

import sidecar
from sidecar import transcoding

HOUSE = Path(sidecar.__file__).parent

# From the top. A room is a module of `sidecar`, or a package with all that is in it.
FLOORS = (
    ("__main__",),
    ("cli",),
    ("runtime",),
    ("grpc_server", "rest_app", "admin_app", "dev_auth_api", "http_listener"),
    (
        "token_service",
        "admission",
        "metadata_limit",
        "request_message",
        "certificates",
        "in_process",
        "problem_pages",
        "problem_documents",
        "signals",
        "http_front",
    ),
    ("auth_api", "guard", "throttle", "http_connection", "shedding"),
    ("auth_answer", "auth_request", "upstream_errors"),
    ("credentials", "setting_sources", "sockets"),
    ("problems", "basic_auth", "settings", "tls"),
    ("logs", "secret", "setting_types", "retry", "drain", "client_address", "windows"),
    ("request_head", "http_limits", "lingering"),
    ("aside", "log_writer", "core_dumps", "descriptors", "foreign_names", "transcoding"),
)
TRANSCODING_FLOORS = (
    ("",),  # the package itself, which names what others use
    ("transcoder",),
    ("receiving",),
    ("calling", "problem_json", "router", "binding", "codec", "answers", "options"),
    ("body", "metadata", "status"),
    ("rules",),
    ("json_reader", "json_writer", "parameters"),
    ("any_reader", "json_plans"),
    ("template", "place", "well_known"),
    ("structs",),
    ("scalars", "fields"),
    ("numerals",),
    ("errors", "percent", "strict_json", "media_type"),
)
# Who alone may import what. A prefix of a module's name stands for all below it.
USERS: Mapping[str, tuple[str, ...]] = {
    "httpx2": ("sidecar.auth_api", "sidecar.upstream_errors"),
    "joserfc": ("sidecar.dev_auth_api",),
    "h11": ("sidecar.http_connection", "sidecar.http_front"),
    "pydantic": ("sidecar.settings", "sidecar.setting_types", "sidecar.setting_sources"),
    "pydantic_core": ("sidecar.setting_sources",),
    "uvicorn": ("sidecar.http_front", "sidecar.http_listener"),
    "uvloop": ("sidecar.cli",),
}
STARLETTE_USERS = tuple(
    f"sidecar.transcoding.{room}" for room in ("transcoder", "receiving", "calling", "problem_json")
)
STDLIB_ONLY = tuple(
    f"sidecar.transcoding.{room}" for room in ("template", "place", *TRANSCODING_FLOORS[-1])
)
PRINTER = "sidecar.cli"


def modules() -> Mapping[str, str]:
    """Return the source of every module of the house by its full name."""
    sources = {}
    for path in sorted(HOUSE.rglob("*.py")):
        parts = path.relative_to(HOUSE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        sources[name] = path.read_text("utf-8")
    return sources


MODULES = modules()


def imports_of(source: str) -> Iterator[str]:
    """Return the full name of whatever is imported anywhere in `source`, also within functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = "." * node.level + (node.module or "")
            yield from (f"{package}.{alias.name}" for alias in node.names)


def calls_of(source: str) -> set[str]:
    """Return the names of the functions that `source` calls."""
    called = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return {
        func.id if isinstance(func, ast.Name) else func.attr
        for func in called
        if isinstance(func, ast.Name | ast.Attribute)
    }


def faults_of(module: str, source: str) -> list[str]:
    """Return every import and call of `source` that the full name `module` must not have."""
    imported = sorted(set(imports_of(source)))
    found = [f"imports {name}" for name in imported if not may_import(module, name)]
    calls = calls_of(source)
    if "print" in calls and module != PRINTER:
        found.append("prints")
    return found + [f"calls {name}" for name in sorted(calls & {"import_module", "__import__"})]


def may_import(module: str, name: str) -> bool:
    """Whether `module` may import `name`."""
    top = name.partition(".")[0]
    if top == "":  # a relative import
        return False
    if top == "sidecar":
        return points_down(module, name)
    if module in STDLIB_ONLY:
        return top in sys.stdlib_module_names
    if module.startswith("sidecar.transcoding"):
        return top != "karmo" and (top != "starlette" or module in STARLETTE_USERS)
    return module in USERS.get(top, (module,))


def points_down(module: str, name: str) -> bool:
    """Whether `name`, which is something of ours, stands lower than `module`, or beside it."""
    here, there = room_of("sidecar", module), room_of("sidecar", name)
    if here != there:
        return floor_of(FLOORS, here) < floor_of(FLOORS, there)
    if here != "transcoding":
        return True  # within a package of one floor
    below = (room_of("sidecar.transcoding", full) for full in (module, name))
    upper, lower = (floor_of(TRANSCODING_FLOORS, room) for room in below)
    return upper < lower


def room_of(package: str, name: str) -> str:
    """Return the part of `name` after `package`, without what is in it."""
    return name.removeprefix(package).removeprefix(".").partition(".")[0]


def floor_of(floors: Sequence[Sequence[str]], room: str) -> int:
    """Return the number of the floor that `room` is on, from the top. Raises LookupError."""
    for number, rooms in enumerate(floors):
        if room in rooms:
            return number
    raise LookupError(f"{room!r} has no floor")


def test_every_room_has_a_floor() -> None:
    """No module stands outside of the house, and no floor has a room that is not there."""
    rooms = {room_of("sidecar", name) for name in MODULES} - {""}
    assert rooms == {room for floor in FLOORS for room in floor}
    inner = {room_of("sidecar.transcoding", name) for name in MODULES if ".transcoding" in name}
    assert inner == {room for floor in TRANSCODING_FLOORS for room in floor}


@pytest.mark.parametrize("module", [name for name in MODULES if name != "sidecar"])
def test_layers(module: str) -> None:
    """No module imports from above or beside it, or what is another's, and one alone prints."""
    assert faults_of(module, MODULES[module]) == []


def test_the_package_is_empty() -> None:
    """The package says what it is for, and imports nothing of itself by the way."""
    (only,) = ast.parse(MODULES["sidecar"]).body
    assert isinstance(only, ast.Expr)


def test_what_transcoding_offers() -> None:
    """The package names what others use, sorted, and has all of it and no more."""
    assert transcoding.__all__ == sorted(transcoding.__all__)
    offered = {name.rpartition(".")[2] for name in imports_of(MODULES["sidecar.transcoding"])}
    assert offered == set(transcoding.__all__)


# Sources that must be found at fault, so that the tests above mean something.
WRONG: Mapping[str, tuple[str, str, list[str]]] = {
    "upwards": (
        "sidecar.problems",
        "from sidecar import auth_api",
        ["imports sidecar.auth_api"],
    ),
    "upwards, a name of it": (
        "sidecar.secret",
        "from sidecar.problems import Problem",
        ["imports sidecar.problems.Problem"],
    ),
    "upwards, as a module": ("sidecar.logs", "import sidecar.cli", ["imports sidecar.cli"]),
    "to the side": (
        "sidecar.setting_types",
        "from sidecar.logs import event",
        ["imports sidecar.logs.event"],
    ),
    "into a package above": (
        "sidecar.auth_api",
        "from sidecar.in_process.channel import InProcessChannel",
        ["imports sidecar.in_process.channel.InProcessChannel"],
    ),
    "out of a package": (
        "sidecar.in_process.channel",
        "from sidecar.token_service import A\nfrom sidecar.in_process.call import Call",
        ["imports sidecar.token_service.A"],
    ),
    "within a function": (
        "sidecar.problems",
        "def load():\n    if True:\n        from sidecar.runtime import run",
        ["imports sidecar.runtime.run"],
    ),
    "for the types alone": (
        "sidecar.problems",
        "if TYPE_CHECKING:\n    from sidecar.guard import Guard",
        ["imports sidecar.guard.Guard"],
    ),
    "relative": ("sidecar.cli", "from . import runtime", ["imports ..runtime"]),
    "out of transcoding": (
        "sidecar.transcoding.transcoder",
        "from sidecar import problems",
        ["imports sidecar.problems"],
    ),
    "the schema of ours": (
        "sidecar.transcoding.rules",
        "from karmo.auth.v1 import token_service_pb2",
        ["imports karmo.auth.v1.token_service_pb2"],
    ),
    "upwards in transcoding": (
        "sidecar.transcoding.rules",
        "from sidecar.transcoding.router import Router",
        ["imports sidecar.transcoding.router.Router"],
    ),
    "to the side in transcoding": (
        "sidecar.transcoding.codec",
        "from sidecar.transcoding import binding",
        ["imports sidecar.transcoding.binding"],
    ),
    "Starlette in transcoding": (
        "sidecar.transcoding.codec",
        "from starlette.requests import Request",
        ["imports starlette.requests.Request"],
    ),
    "a library on the ground": (
        "sidecar.transcoding.template",
        "import re\nimport grpc",
        ["imports grpc"],
    ),
    "another HTTP client": ("sidecar.rest_app", "import httpx2", ["imports httpx2"]),
    "another signer": (
        "sidecar.cli",
        "from joserfc import jwt",
        ["imports joserfc.jwt"],
    ),
    "prints": ("sidecar.runtime", "def tell():\n    print('x')", ["prints"]),
    "a hidden import": (
        "sidecar.runtime",
        "import importlib\nimportlib.import_module('sidecar.cli')\n__import__('sidecar.cli')",
        ["calls __import__", "calls import_module"],
    ),
    "several": (
        "sidecar.secret",
        "import httpx2, sidecar.cli\nprint()",
        ["imports httpx2", "imports sidecar.cli", "prints"],
    ),
}
RIGHT: Mapping[str, tuple[str, str]] = {
    "down": ("sidecar.cli", "from sidecar import logs, runtime\nprint()"),
    "the schema": ("sidecar.problems", "from karmo.problem.v1 import problem_details_pb2"),
    "the ground": ("sidecar.secret", "from sidecar.transcoding.percent import decode"),
    "down in transcoding": (
        "sidecar.transcoding.transcoder",
        "import starlette\nfrom sidecar.transcoding import codec\nimport google.protobuf.message",
    ),
    "the client": ("sidecar.auth_api", "import httpx2"),
    "what begins alike": ("sidecar.secret", "import httpx2_mock\nprinted()"),
}


@pytest.mark.parametrize(("module", "source", "faults"), WRONG.values(), ids=WRONG)
def test_wrong_source_is_found(module: str, source: str, faults: list[str]) -> None:
    """Each way out of the layers is seen."""
    assert faults_of(module, source) == faults


@pytest.mark.parametrize(("module", "source"), RIGHT.values(), ids=RIGHT)
def test_right_source_passes(module: str, source: str) -> None:
    """What the layers allow is not called a fault."""
    assert faults_of(module, source) == []


def test_unknown_room_is_not_passed_over() -> None:
    """A module that nobody has given a floor cannot be imported unseen."""
    with pytest.raises(LookupError, match="'utils' has no floor"):
        faults_of("sidecar.cli", "import sidecar.utils")
