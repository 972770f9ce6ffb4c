"""Locations in a body: their JSON Pointers, and violations there."""

import re
from collections.abc import Callable
from typing import Any, TypeAlias

from sidecar.transcoding.errors import Violation, Violations
from sidecar.transcoding.strict_json import JsonValue

# Names from a client that responses may show: nothing that could be more than a name.
_SHOWN = re.compile(r"[A-Za-z0-9_.@-]{1,64}")

# Arguments of a protobuf constructor. For a message field: arguments again, or a message.
Arguments: TypeAlias = dict[str, Any]
# Reads the value at a location. The result is not used if it adds violations.
Read: TypeAlias = Callable[[JsonValue, "Location", Violations], Any]
# Returns what `Read` returns, for a value and the number of values around it. Raises
# InvalidValueError if anything in the value is wrong. It takes half the time, because it makes no
# locations and no violations.
ReadValid: TypeAlias = Callable[[JsonValue, int], Any]


class Location:
    """The location of a value in a body.

    `subject` begins a sentence about the value, and `depth` is the number of values around it.
    A `token` that must not be shown is None. A location is made for each value that has others
    in it, so making one must be fast.
    """

    __slots__ = ("depth", "parent", "subject", "token")

    def __init__(
        self,
        parent: "Location | None" = None,
        token: str | int | None = None,
        subject: str = "The body",
        *,
        depth: int = 0,
    ) -> None:
        """Make the location of the member or element `token` of the value at `parent`.

        Without a parent it is that of the body, which has `depth` values around it.
        """
        self.parent = parent
        self.token = token
        self.subject = subject
        self.depth: int = parent.depth + 1 if parent else depth

    @property
    def pointer(self) -> str:
        """JSON Pointer (RFC 6901 section 3), up to the first token that must not be shown."""
        tokens: list[str] = []
        location: Location | None = self
        while location is not None and location.parent is not None:
            if location.token is None:
                tokens.clear()  # deeper tokens could not be found without it
            else:
                tokens.append(str(location.token).replace("~", "~0").replace("/", "~1"))
            location = location.parent
        return "".join(f"/{token}" for token in reversed(tokens))

    def violation(self, predicate: object) -> Violation:
        """Return a violation here; `predicate` ends the sentence, without its full stop."""
        return Violation(detail=f"{self.subject} {predicate}.", pointer=self.pointer)

    def member(self, name: str, subject: str) -> "Location":
        """Return the location of a member; a name that must not be shown becomes None."""
        return Location(self, name if is_shown(name) else None, subject)


def is_shown(name: str) -> bool:
    """Whether a response may show a name that a client made up."""
    return _SHOWN.fullmatch(name) is not None
