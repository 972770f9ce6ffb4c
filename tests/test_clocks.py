"""Check that no test has a timeout below a second, which a busy machine could miss.

A test about a time carries `@pytest.mark.timing("...")`, whose text says why a slow
machine cannot make it fail: it runs on virtual time, or it waits for an event and its
timeout only ends a hang. `soak` tests are exempt too: they need a quiet machine.
"""

import ast
from collections.abc import Callable, Iterator

import pytest
from pydantic import TypeAdapter

from sidecar.settings.model import Settings
from sidecar.settings.types import SecondsField
from tests.sidecar_process import ROOT
from tests.sources import modules

pytestmark = pytest.mark.unmeasured

SHORTEST = 1.0  # seconds
PARSE: Callable[[str], float] = TypeAdapter(SecondsField).validate_python
MARKS = ("timing", "soak")
# The names of parameters in seconds, and functions by the position of such a parameter.
NAMES = frozenset(
    {"timeout", "within", "one_try", "total", "connect", "grace"}
    | {"ssl_handshake_timeout", "handshake_timeout", "message_timeout", "keep_alive"}
    | {"header_timeout", "request_timeout"}
)
POSITIONS = {"asyncio.timeout": 0, "asyncio.wait_for": 1, "within": 0}
SLEEPS = {"asyncio.sleep": 0, "time.sleep": 0}
SETTINGS = frozenset(
    name for name in Settings.model_fields if name.endswith(("timeout", "keep_alive", "grace"))
)
FILES = sorted(modules())


class Clocks(ast.NodeVisitor):
    """Finds the lines of a module with times that a slow machine may miss."""

    def __init__(self, tree: ast.Module, *, sleeps: bool) -> None:
        self.lines: list[int] = []
        self._positions = POSITIONS | (SLEEPS if sleeps else {})
        self._constants = dict(_constants(tree))
        self._short = {name for name, value in self._constants.items() if _has_short(value)}
        self.visit(tree)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Skip a marked test."""
        if not _is_marked(node):
            self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        """Skip a marked test."""
        if not _is_marked(node):
            self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Skip a marked class of tests."""
        if not _is_marked(node):
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        """Check the arguments that are seconds."""
        position = self._positions.get(_name_of(node.func))
        values = [keyword.value for keyword in node.keywords if keyword.arg in NAMES | SETTINGS]
        if position is not None:
            values += node.args[position : position + 1]
        self.lines += [node.lineno for value in values if _is_short(self._resolve(value))]
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        """Check the use of a constant of the module that holds settings."""
        if isinstance(node.ctx, ast.Load) and node.id in self._short:
            self.lines.append(node.lineno)

    def _resolve(self, value: ast.expr) -> ast.expr:
        return self._constants.get(value.id, value) if isinstance(value, ast.Name) else value


def _name_of(function: ast.expr) -> str:
    """Return a name, or a name and an attribute of it; empty for any other expression."""
    match function:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=ast.Name(id=module), attr=name):
            return f"{module}.{name}"
    return ""


def _constants(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield name, value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                yield name, value


def _has_short(value: ast.expr) -> bool:
    """Whether `value` is a table of settings with a short time."""
    return isinstance(value, ast.Dict) and any(
        isinstance(key, ast.Constant) and key.value in SETTINGS and _is_short(entry)
        for key, entry in zip(value.keys, value.values, strict=True)
    )


def _is_short(value: ast.expr) -> bool:
    """Whether `value` is a time above zero and below a second."""
    try:
        seconds = ast.literal_eval(value)
        seconds = PARSE(seconds) if isinstance(seconds, str) else seconds
    except ValueError:
        return False
    return isinstance(seconds, int | float) and 0 < seconds < SHORTEST


def _is_marked(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    return any(
        ast.unparse(decorator).startswith(f"pytest.mark.{mark}")
        for decorator in node.decorator_list
        for mark in MARKS
    )


def test_no_short_timeouts() -> None:
    """Only a marked test has a timeout below a second or a sleep."""
    short_times = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in FILES
        for line in Clocks(ast.parse(path.read_text()), sleeps=path.name.startswith("test_")).lines
    ]
    assert short_times == []


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("def test():\n    asyncio.timeout(0.5)", [2]),
        ("def test():\n    asyncio.timeout(5)", []),
        ("SOON = 0.1\ndef test():\n    asyncio.wait_for(x, SOON)", [3]),
        ("def test():\n    open_deployment(auth_api_timeout='300ms')", [2]),
        ("TIMES = {'auth_api_timeout': '0.3s'}\ndef test():\n    open_deployment(**TIMES)", [3]),
        ("def test():\n    asyncio.sleep(0)\n    asyncio.sleep(0.1)", [3]),
        ("class Test:\n    def test(self):\n        stub.Check(request, timeout=0.1)", [3]),
        ("@pytest.mark.timing('why')\ndef test():\n    asyncio.timeout(0.5)", []),
        ("@pytest.mark.soak\nasync def test():\n    asyncio.timeout(0.5)", []),
        ("@pytest.mark.timing('why')\nclass Test:\n    within(0.1)", []),
    ],
)
def test_what_is_found(code: str, lines: list[int]) -> None:
    """The check finds short times anywhere, except in marked tests."""
    assert Clocks(ast.parse(code), sleeps=True).lines == lines


def test_each_marker_says_why(request: pytest.FixtureRequest) -> None:
    """`timing` has one argument, the reason."""
    marks = [mark for item in request.session.items for mark in item.iter_markers("timing")]
    assert all(len(mark.args) == 1 and isinstance(mark.args[0], str) for mark in marks)
