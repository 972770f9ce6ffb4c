"""JSON as RFC 8259 has it, without what Python's parser adds, and with nothing lost.

Python's `json` takes NaN and Infinity, guesses UTF-16, lets the last of equal
names win, and ends in RecursionError on deep nesting.
"""

import json
import math
from decimal import Decimal
from itertools import accumulate
from typing import NoReturn, TypeAlias, TypeGuard

# More than any type has, and less than the limit of `int`.
_MAX_DIGITS = 1000
_DEEPEST = 98
# From here on not every integer is a float; no type has integers of so many digits.
_INEXACT, _LONGEST = 2.0**53, 25
_STEPS = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1}
_NO_SKELETON = bytes(set(range(256)) - {ord('"'), *_STEPS})


class JsonObject(list[tuple[str, "JsonValue"]]):
    """An object as the list of its members, so that a repeated name is still seen."""

    def unique(self) -> dict[str, "JsonValue"]:
        """Return the members by name. Raises ValueError when a name is repeated."""
        members = dict(self)
        if len(members) != len(self):
            raise ValueError("a name is repeated in an object")
        return members


# A number with an exponent that is too large for a float is infinite.
JsonValue: TypeAlias = str | int | float | bool | JsonObject | list["JsonValue"] | None

# What `json` writes; every name in an object is there once.
JsonTree: TypeAlias = str | int | float | bool | dict[str, "JsonTree"] | list["JsonTree"] | None


def is_array(value: JsonValue) -> TypeGuard[list[JsonValue]]:
    """Whether `value` is an array."""
    return isinstance(value, list) and not isinstance(value, JsonObject)


def parse(data: bytes) -> JsonValue:
    """Return the value that `data` holds.

    Raises ValueError when it is not JSON in UTF-8, nests too deeply, or has a
    number of too many digits. The text of the error quotes nothing of it.
    """
    try:
        text = data.decode()
        if text.startswith("\ufeff"):
            raise ValueError("it starts with a byte order mark")
        _check_nesting(data)
        value: JsonValue = _DECODER.decode(text)
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg.rstrip(' :')} (character {error.pos + 1})") from None
    return value


def _check_nesting(data: bytes) -> None:
    """Raise ValueError for deeper nesting than the parsers of protobuf take.

    They take 100 messages in each other, of which two may have no bracket here: the
    one whose field is the body, and a wrapper. The depth at which `json` gives up
    differs between versions of Python.
    """
    if data.count(b"{") + data.count(b"[") <= _DEEPEST:
        return
    if b"\\" in data:
        data = data.replace(rb"\\", b"").replace(rb"\"", b"")
    # Without escapes each quote is an end of a string: every second part is one. Two quotes
    # with nothing between have nothing to part.
    skeleton = data.translate(None, delete=_NO_SKELETON).replace(b'""', b"")
    brackets = b"".join(skeleton.split(b'"')[::2])
    if max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > _DEEPEST:
        raise ValueError("it nests too deeply")


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def _parse_int(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError("a number is too long")
    return int(text)


def _parse_float(text: str) -> float | int:
    value = float(text)
    if abs(value) < _INEXACT or math.isinf(value):
        return value
    # A float might be another integer than the one that was sent.
    number = Decimal(text)
    is_integer = number.adjusted() < _LONGEST and number == number.to_integral_value()
    return int(number) if is_integer else value


_DECODER = json.JSONDecoder(
    object_pairs_hook=JsonObject,
    parse_constant=_refuse_constant,
    parse_float=_parse_float,
    parse_int=_parse_int,
)
