"""No core dumps: the memory of the process holds secrets, and a dump is a file of it."""

import ctypes
import resource
from contextlib import suppress

_PR_SET_DUMPABLE = 4  # linux/prctl.h


def forbid() -> None:
    """Keep the process, until its end, from being dumped when it crashes.

    The limit is for files alone: where core(5) names a program to pipe dumps into,
    that one is called whatever the limit is, unless the process is not dumpable. By
    prctl(2) no other process of the same user can attach to it then, either.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(AttributeError):  # only Linux has it
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
