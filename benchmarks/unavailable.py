"""The error of a system that cannot run on this machine."""


class UnavailableError(Exception):
    """A system is left out; the text says why."""
