"""Tests of the layout: permitted imports between packages, and the one user of each library."""

import ast
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import sidecar
from sidecar import transcoding

pytestmark = pytest.mark.unmeasured

ROOT = Path(sidecar.__file__).parent
# Each module or package of `sidecar`, and the others that it may import. A package stands for
# all of its modules. In order from the top down.
PERMITTED: Mapping[str, tuple[str, ...]] = {
    "__main__": ("cli", "process.startup_signals"),
    "cli": (
        "api",
        "exchange.client_hash",
        "logs",
        "probe",
        "process",
        "rest.openapi",
        "rest.request_explainer",
        "runtime",
        "settings",
        "tls",
        "transcoding.explanation",
    ),
    "runtime": (
        "admin_app",
        "assembly",
        "dev_auth_api",
        "grpc_server",
        "http_server",
        "interceptors.admission",
        "logs",
        "process",
        "settings",
        "telemetry",
        "tls",
    ),
    "assembly": (
        "api",
        "auth_api",
        "exchange",
        "grpc_server",
        "http_server",
        "in_process",
        "interceptors",
        "process.sockets",
        "rest",
        "settings",
        "spans",
        "telemetry.metrics.durations",
        "tls",
    ),
    "telemetry.metrics": (
        "auth_api.client",
        "auth_api.faults",
        "auth_api.outcomes",
        "auth_api.transport.connection",
        "call",
        "exchange.limit",
        "exchange.shared_counts.sharing",
        "http_server.counts",
        "log_writer",
        "process.daemon_thread",
        "process.drain",
        "telemetry.counts",
        "tls.expiry",
        "transcoding.media_type",
    ),
    "telemetry.tracing": ("call", "logs", "process.daemon_thread", "spans"),
    "telemetry": (
        "auth_api.client",
        "exchange.service",
        "exchange.shared_counts.sharing",
        "exchange.throttle",
        "grpc_server.server",
        "http_server.counts",
        "http_server.listener",
        "interceptors.admission",
        "log_writer",
        "logs",
        "process.drain",
        "tls.certificates",
        "tls.expiry",
    ),
    "api": (
        "exchange",
        "http_server.http1.request_head",
        "rest.openapi",
        "rest.pages",
        "settings",
        "transcoding",
    ),
    "admin_app": ("http_server.http1.refusal", "logs"),
    "probe": ("settings",),
    "dev_auth_api": ("transcoding.percent",),
    "rest": (
        "call",
        "http_server.http1.refusal",
        "http_server.http1.request_head",
        "http_server.load_shedding",
        "logs",
        "problems",
        "rest.fixed_content",
        "rest.pages",
        "settings.types",
        "spans",
        "transcoding",
    ),
    "rest.pages": (
        "problems",
        "rest.fixed_content",
        "transcoding.media_type",
        "transcoding.status",
    ),
    "rest.fixed_content": (),
    "grpc_server": (
        "interceptors",
        "logs",
        "process.sockets",
        "process.unix_socket",
        "settings.addresses",
        "settings.types",
        "spans",
    ),
    "interceptors": ("call", "client_address", "logs", "problems", "spans"),
    "exchange.shared_counts": (
        "auth_api.dns",
        "exchange.failure_limit",
        "exchange.limit",
        "logs",
        "secret",
    ),
    "exchange": (
        "auth_api",
        "call",
        "client_address",
        "logs",
        "problems",
        "secret",
        "stray_characters",
        "transcoding.percent",
    ),
    "auth_api": (
        "auth_api.dns",
        "auth_api.transport",
        "call",
        "logs",
        "problems",
        "secret",
        "spans",
        "stray_characters",
        "transcoding.media_type",
        "transcoding.strict_json",
    ),
    "auth_api.transport": (
        "auth_api.dns",
        "auth_api.local_errnos",
        "call",
        "logs",
        "spans",
        "tls.resuming_context",
    ),
    "auth_api.dns": ("auth_api.local_errnos", "logs", "process.daemon_thread"),
    "auth_api.local_errnos": (),
    "http_server": (
        "call",
        "client_address",
        "logs",
        "tls.handshake",
        "transcoding.errors",
    ),
    "in_process": ("logs",),
    "tls": ("logs", "process.daemon_thread", "secret", "settings", "stray_characters"),
    "process": ("logs", "settings"),
    "logs": ("call", "log_writer"),
    "settings": ("secret", "stray_characters"),
    "problems": (),
    "call": ("client_address", "spans"),
    "client_address": (),
    "log_writer": (),
    "spans": (),
    "secret": (),
    "stray_characters": (),
    "transcoding.protojson": (
        "transcoding.errors",
        "transcoding.fields",
        "transcoding.strict_json",
    ),
    "transcoding.openapi": (
        "transcoding.body",
        "transcoding.body_formats",
        "transcoding.errors",
        "transcoding.fields",
        "transcoding.media_type",
        "transcoding.options",
        "transcoding.protojson",
        "transcoding.rules",
        "transcoding.strict_json",
        "transcoding.template",
    ),
    "transcoding.explanation": (
        "transcoding.errors",
        "transcoding.fields",
        "transcoding.metadata",
        "transcoding.options",
        "transcoding.percent",
        "transcoding.protojson",
        "transcoding.router",
        "transcoding.rules",
        "transcoding.status",
        "transcoding.strict_json",
        "transcoding.template",
        "transcoding.transcoder",
    ),
    "transcoding.streams": (
        "transcoding.cancellation",
        "transcoding.errors",
        "transcoding.media_type",
        "transcoding.protojson",
        "transcoding.responses",
        "transcoding.status",
    ),
    "transcoding": ("transcoding.protojson", "transcoding.streams"),
}
# The only modules that may import a library. A package stands for all of its modules.
USERS: Mapping[str, tuple[str, ...]] = {
    "httptools": ("auth_api.transport.response_parser", "http_server.http1.chunked_body"),
    "httpx2": ("auth_api.client", "auth_api.transport.keep_alive"),
    "joserfc": ("dev_auth_api",),
    "opentelemetry": ("telemetry.tracing",),
    "prometheus_client": ("telemetry.metrics",),
    "pydantic": ("settings",),
    "pydantic_core": ("settings.sources", "transcoding.protojson.writer"),
    "redis": (
        "exchange.shared_counts.redis_connection",
        "exchange.shared_counts.redis_store",
    ),
    "requests": ("telemetry.tracing.exporter",),
    "uvloop": ("cli",),
}
STARLETTE_USERS = tuple(
    f"transcoding.{module}"
    for module in (
        "transcoder",
        "request_body",
        "cancellation",
        "compression",
        "default_renderer",
        "explanation.decision",
        "streams.response",
    )
)
STDLIB_ONLY = tuple(
    f"transcoding.{module}"
    for module in (
        "errors",
        "media_type",
        "percent",
        "protojson.location",
        "streams.body_writer",
        "streams.framing",
        "strict_json",
        "template",
    )
)
PRINTER = "cli"
# Modules and packages at the top of `sidecar`, and modules in a package, at most.
MAX_MODULES, MAX_PACKAGES, MAX_IN_A_PACKAGE, MAX_IN_TRANSCODING = 16, 12, 10, 21


def modules() -> Mapping[str, str]:
    """Return the source of every module by its name below `sidecar`.

    The samples are programs of partners, no modules.
    """
    sources = {}
    for path in sorted(set(ROOT.rglob("*.py")) - set(ROOT.glob("rest/samples/*"))):
        parts = path.relative_to(ROOT).with_suffix("").parts
        sources[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(
            "utf-8"
        )
    return sources


MODULES = modules()


def imports_of(source: str) -> Iterator[str]:
    """Return the full name of every import in `source`, also within functions."""
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


def violations_of(module: str, source: str) -> list[str]:
    """Return every forbidden import and call of `module`, whose text is `source`."""
    imported = sorted(set(imports_of(source)))
    wrong = [f"imports {name}" for name in imported if not may_import(module, name)]
    calls = calls_of(source)
    if "print" in calls and module != PRINTER:
        wrong.append("prints")
    return wrong + [f"calls {name}" for name in sorted(calls & {"import_module", "__import__"})]


def may_import(module: str, name: str) -> bool:
    """Whether `module` may import `name`."""
    top, _, inner = name.partition(".")
    if top == "":  # a relative import
        return False
    if top == "sidecar":
        return inner != "" and is_permitted(module, inner)
    if module in STDLIB_ONLY:
        return top in sys.stdlib_module_names
    if is_in(module, "transcoding"):
        return top != "karmo" and (top != "starlette" or module in STARLETTE_USERS)
    return top not in USERS or any(is_in(module, user) for user in USERS[top])


def is_permitted(module: str, name: str) -> bool:
    """Whether `module` may import `name`, both below `sidecar`."""
    package = package_of(module)
    if package_of(name) == package:
        return True  # another test checks the order in a package
    return any(is_in(name, permitted) for permitted in PERMITTED[package])


def package_of(name: str) -> str:
    """Return the innermost entry of PERMITTED that contains `name`. Raises LookupError."""
    for package in sorted(PERMITTED, key=len, reverse=True):
        if is_in(name, package):
            return package
    raise LookupError(f"{name!r} has no entry in PERMITTED")


def is_in(name: str, package: str) -> bool:
    """Whether `name` is `package` or inside it."""
    return name == package or name.startswith(f"{package}.")


def module_of(name: str) -> str:
    """Return the module below `sidecar` that the import of `name` loads."""
    return name if name in MODULES else name.rpartition(".")[0]


@cache
def graph() -> Mapping[str, set[str]]:
    """Return the imports of each module, read once for all tests."""
    return {
        module: {
            module_of(name.removeprefix("sidecar."))
            for name in imports_of(source)
            if is_in(name, "sidecar")
        }
        for module, source in MODULES.items()
    }


@pytest.mark.parametrize("module", [name for name in MODULES if name])
def test_imports_are_permitted(module: str) -> None:
    """No module has a forbidden import, and only one prints."""
    assert violations_of(module, MODULES[module]) == []


def test_no_cycle() -> None:
    """Imports have no cycle, neither between packages nor inside one."""
    assert list(TopologicalSorter(graph()).static_order())


@pytest.mark.parametrize("package", PERMITTED)
def test_every_permission_is_used(package: str) -> None:
    """Every module in the list exists, and every permitted import is used."""
    imported = {
        name
        for module, names in graph().items()
        if module and package_of(module) == package
        for name in names
    }
    assert any(name and package_of(name) == package for name in MODULES)
    unused = [entry for entry in PERMITTED[package] if not any(is_in(n, entry) for n in imported)]
    assert unused == []
    assert list(PERMITTED[package]) == sorted(PERMITTED[package])


def test_the_top_is_small() -> None:
    """Each level has few enough modules and packages for a reader."""
    entries: dict[str, list[str]] = {}
    for name in MODULES:
        entries.setdefault(name.rpartition(".")[0], []).append(name)
    packages = [name for name in entries if name]
    top = [name for name in entries[""] if name]
    assert len([name for name in top if name not in packages]) <= MAX_MODULES
    assert len([name for name in top if name in packages]) <= MAX_PACKAGES
    for package in packages:
        limit = MAX_IN_TRANSCODING if package == "transcoding" else MAX_IN_A_PACKAGE
        assert len([name for name in entries[package] if name not in packages]) <= limit, package


@pytest.mark.parametrize(
    "package", [name for name in MODULES if name not in ("in_process", "transcoding")]
)
def test_packages_are_one_sentence(package: str) -> None:
    """A package has a docstring of one sentence, and no imports."""
    if not any(name.startswith(f"{package}.") for name in MODULES) and package:
        return
    (only,) = ast.parse(MODULES[package]).body
    assert isinstance(only, ast.Expr)
    text = ast.literal_eval(only.value)
    assert text.endswith(".")
    assert "\n" not in text


def test_what_transcoding_offers() -> None:
    """The package exports exactly the names that others use, sorted."""
    assert transcoding.__all__ == sorted(transcoding.__all__)
    offered = {name.rpartition(".")[2] for name in imports_of(MODULES["transcoding"])}
    assert offered == set(transcoding.__all__)


# Sources that the checks above must refuse.
WRONG: Mapping[str, tuple[str, str, list[str]]] = {
    "upwards": ("problems", "from sidecar import auth_api", ["imports sidecar.auth_api"]),
    "upwards, a name of it": (
        "secret",
        "from sidecar.problems import Problem",
        ["imports sidecar.problems.Problem"],
    ),
    "upwards, as a module": ("logs", "import sidecar.cli", ["imports sidecar.cli"]),
    "the whole": ("cli", "import sidecar", ["imports sidecar"]),
    "to the side": (
        "settings.types",
        "from sidecar.logs import event",
        ["imports sidecar.logs.event"],
    ),
    "another module of a package": (
        "rest.app",
        "from sidecar.http_server.protocol import ListenerState",
        ["imports sidecar.http_server.protocol.ListenerState"],
    ),
    "out of a package": (
        "in_process.channel",
        "from sidecar.exchange.service import A\nfrom sidecar.in_process.call import Call",
        ["imports sidecar.exchange.service.A"],
    ),
    "within a function": (
        "problems",
        "def load():\n    if True:\n        from sidecar.runtime import run",
        ["imports sidecar.runtime.run"],
    ),
    "for the types alone": (
        "problems",
        "if TYPE_CHECKING:\n    from sidecar.interceptors.handlers import Handler",
        ["imports sidecar.interceptors.handlers.Handler"],
    ),
    "relative": ("cli", "from . import runtime", ["imports ..runtime"]),
    "out of transcoding": (
        "transcoding.transcoder",
        "from sidecar import problems",
        ["imports sidecar.problems"],
    ),
    "the schema of ours": (
        "transcoding.rules",
        "from karmo.auth.v1 import token_service_pb2",
        ["imports karmo.auth.v1.token_service_pb2"],
    ),
    "upwards in transcoding": (
        "transcoding.protojson.reader",
        "from sidecar.transcoding.binding import Binder",
        ["imports sidecar.transcoding.binding.Binder"],
    ),
    "Starlette in transcoding": (
        "transcoding.body_formats",
        "from starlette.requests import Request",
        ["imports starlette.requests.Request"],
    ),
    "a library in what is pure": (
        "transcoding.template",
        "import re\nimport grpc",
        ["imports grpc"],
    ),
    "another HTTP client": ("rest.app", "import httpx2", ["imports httpx2"]),
    "another signer": ("cli", "from joserfc import jwt", ["imports joserfc.jwt"]),
    "prints": ("runtime", "def show():\n    print('x')", ["prints"]),
    "a hidden import": (
        "runtime",
        "import importlib\nimportlib.import_module('sidecar.cli')\n__import__('sidecar.cli')",
        ["calls __import__", "calls import_module"],
    ),
    "several": (
        "secret",
        "import httpx2, sidecar.cli\nprint()",
        ["imports httpx2", "imports sidecar.cli", "prints"],
    ),
}
RIGHT: Mapping[str, tuple[str, str]] = {
    "down": ("cli", "from sidecar import logs, runtime\nprint()"),
    "the schema": ("problems", "from karmo.problem.v1 import problem_details_pb2"),
    "one module of a package": (
        "exchange.basic_auth",
        "from sidecar.transcoding.percent import decode",
    ),
    "down in transcoding": (
        "transcoding.transcoder",
        "import starlette\nfrom sidecar.transcoding import binding\nimport google.protobuf.message",
    ),
    "the client": ("auth_api.client", "import httpx2"),
    "what begins alike": ("secret", "import httpx2_mock\nprinted()"),
}


@pytest.mark.parametrize(("module", "source", "violations"), WRONG.values(), ids=WRONG)
def test_wrong_source_is_refused(module: str, source: str, violations: list[str]) -> None:
    """Each way around the list is detected."""
    assert violations_of(module, source) == violations


@pytest.mark.parametrize(("module", "source"), RIGHT.values(), ids=RIGHT)
def test_right_source_passes(module: str, source: str) -> None:
    """Permitted imports are not refused."""
    assert violations_of(module, source) == []


def test_an_unknown_module_is_refused() -> None:
    """An import of a module without an entry is an error."""
    with pytest.raises(LookupError, match=r"'utils' has no entry in PERMITTED"):
        violations_of("cli", "import sidecar.utils")
