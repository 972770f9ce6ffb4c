"""Core dumps, disabled because they would write the secrets in memory to a file."""

import ctypes
import resource
from contextlib import suppress

_PR_SET_DUMPABLE = 4  # linux/prctl.h


def forbid() -> None:
    """Disable core dumps until the process ends.

    RLIMIT_CORE covers only dumps to files. If core(5) names a program for dumps, Linux
    calls it whatever the limit is, unless the process is not dumpable (prctl(2)). Other
    processes of the same user cannot attach to such a process either.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(AttributeError):  # only Linux has it
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
