"""JSON as RFC 8259 has it, without what Python's parser adds, and with nothing lost.

Python's `json` takes NaN and Infinity, guesses UTF-16, lets the last of equal
names win, and ends in RecursionError on deep nesting.
"""

import json
import math
from decimal import Decimal
from itertools import accumulate
from typing import NoReturn, TypeAlias

# Less than the limit of `int`, whose error tells how to lift it.
_MOST_DIGITS = 1000
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


JsonValue: TypeAlias = str | int | float | bool | JsonObject | list["JsonValue"] | None

# What `json` writes; every name in an object is there once.
JsonTree: TypeAlias = str | int | float | bool | dict[str, "JsonTree"] | list["JsonTree"] | None


def parse(data: bytes) -> JsonValue:
    """Return the value that `data` holds.

    Raises ValueError when it is not JSON in UTF-8, nests too deeply, or has a
    number that Python cannot hold. The text of the error quotes nothing of it.
    """
    try:
        text = data.decode()
        if text.startswith("\ufeff"):
            raise ValueError("it starts with a byte order mark")
        _check_nesting(data)
        value: JsonValue = json.loads(
            text,
            object_pairs_hook=JsonObject,
            parse_constant=_refuse_constant,
            parse_float=_parse_float,
            parse_int=_parse_int,
        )
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg.rstrip(' :')} (character {error.pos})") from None
    return value


def _check_nesting(data: bytes) -> None:
    """Raise ValueError for deeper nesting than the parsers of protobuf take.

    They take 100 messages in each other, of which two may have no bracket here: the
    one whose field is the body, and a wrapper. The depth at which `json` gives up
    differs between versions of Python.
    """
    if data.count(b"{") + data.count(b"[") <= _DEEPEST:
        return
    # Once the escapes are gone, each quote is an end of a string: every second part is one.
    unescaped = data.replace(rb"\\", b"").replace(rb"\"", b"")
    skeleton = unescaped.translate(None, delete=_NO_SKELETON)
    brackets = b"".join(skeleton.split(b'"')[::2])
    if max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > _DEEPEST:
        raise ValueError("it nests too deeply")


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def _parse_int(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError("a number is too long")
    return int(text)


def _parse_float(text: str) -> float | int:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is too large")
    if abs(value) < _INEXACT:
        return value
    # A float might be another integer than the one that was sent.
    number = Decimal(text)
    is_integer = number.adjusted() < _LONGEST and number == number.to_integral_value()
    return int(number) if is_integer else value
