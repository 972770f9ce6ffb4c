"""The modules of the tests, without what their tools have installed beside them."""

import os
from collections.abc import Iterator
from pathlib import Path

from tests.sidecar_process import ROOT

_INSTALLED = frozenset({"node_modules", ".downloads", "__pycache__"})


def modules() -> Iterator[Path]:
    """Yield the path of each module. Installed folders, which are large, are not entered."""
    for folder, folders, names in os.walk(ROOT / "tests"):
        folders[:] = sorted(set(folders) - _INSTALLED)
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(".py"))
