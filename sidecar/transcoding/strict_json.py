"""JSON as RFC 8259 has it, without what Python's parser adds, and with nothing lost.

Python's `json` takes NaN and Infinity, guesses UTF-16, lets the last of equal
names win, and ends in RecursionError on deep nesting.
"""

import json
import math
import re
from typing import NoReturn, TypeAlias

# Less than the limit of `int`, whose error tells how to lift it.
_MOST_DIGITS = 1000
_DEEPEST = 100
_BRACKET = re.compile(r"[{}\[\]]")
# One that is not closed reaches to the end, or each quote in it would be tried anew.
_STRING = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)', re.DOTALL)


class JsonObject(list[tuple[str, "JsonValue"]]):
    """An object as the list of its members, so that a repeated name is still seen."""

    def unique(self) -> dict[str, "JsonValue"]:
        """Return the members by name. Raises ValueError when a name is repeated."""
        members = dict(self)
        if len(members) != len(self):
            raise ValueError("a name is repeated in an object")
        return members


JsonValue: TypeAlias = str | int | float | bool | JsonObject | list["JsonValue"] | None


def parse(data: bytes) -> JsonValue:
    """Return the value that `data` holds.

    Raises ValueError when it is not JSON in UTF-8, nests too deeply, or has a
    number that Python cannot hold. The text of the error quotes nothing of it.
    """
    try:
        text = data.decode()
        if text.startswith("\ufeff"):
            raise ValueError("it starts with a byte order mark")
        _check_nesting(text)
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


def _check_nesting(text: str) -> None:
    """Raise ValueError for deeper nesting than protobuf's own parsers take.

    The depth at which `json` gives up differs between versions of Python.
    """
    if text.count("{") + text.count("[") <= _DEEPEST:
        return
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "{[" else -1
        if depth > _DEEPEST:
            raise ValueError("it nests too deeply")


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def _parse_int(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError("a number is too long")
    return int(text)


def _parse_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is too large")
    return value
