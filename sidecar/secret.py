"""Wrapper for a secret value, so that it is never shown by accident."""

from typing import Generic, NoReturn, SupportsIndex, TypeVar

Value = TypeVar("Value", bound=str | bytes)


class Secret(Generic[Value]):
    """Wraps text or bytes that only `reveal` returns.

    `repr`, `str` and `format` show a mask, and pickling or copying raises TypeError. So a
    secret does not get into a log, a traceback or a file by accident.
    """

    __slots__ = ("_value",)

    def __init__(self, value: Value) -> None:
        self._value = value

    def reveal(self) -> Value:
        """Return the value. The calling code is responsible for where it goes."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied")
