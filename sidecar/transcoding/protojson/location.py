"""Places in a body: what is read there, their JSON Pointers, and what is said to be wrong."""

import re
from collections.abc import Callable
from typing import Any, TypeAlias

from sidecar.transcoding.errors import Violation, Violations
from sidecar.transcoding.strict_json import JsonValue

# What of a client's names is shown to it again: nothing that could be more than a name.
_SHOWN = re.compile(r"[A-Za-z0-9_.@-]{1,64}")

# What the constructors of protobuf take: of a message its arguments again, or itself.
Arguments: TypeAlias = dict[str, Any]
# Returns what a value is read as; where it adds to the faults, that is not used.
Read: TypeAlias = Callable[[JsonValue, "Location", Violations], Any]


class Location:
    """Where in a body a value is; made for each that has others in it, and so made fast.

    `subject` is what a sentence about the value begins with; `depth` is how many
    values it lies in. A `token` that is not to be shown is None.
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
        """Make the place of the member or element `token` of the value at `parent`.

        Without a parent it is that of the body, whose value lies in `depth` others.
        """
        self.parent = parent
        self.token = token
        self.subject = subject
        self.depth: int = parent.depth + 1 if parent else depth

    @property
    def pointer(self) -> str:
        """The JSON Pointer, as far as it can be shown; RFC 6901 section 3 has the escapes."""
        tokens: list[str] = []
        location: Location | None = self
        while location is not None and location.parent is not None:
            if location.token is None:
                tokens.clear()  # what it holds could not be found without it
            else:
                tokens.append(str(location.token).replace("~", "~0").replace("/", "~1"))
            location = location.parent
        return "".join(f"/{token}" for token in reversed(tokens))

    def violation(self, predicate: object) -> Violation:
        """Return what is wrong here; `predicate` ends the sentence, without its full stop."""
        return Violation(detail=f"{self.subject} {predicate}.", pointer=self.pointer)

    def member(self, name: str, subject: str) -> "Location":
        """Return the place of a member whose name is the client's, which may be odd."""
        return Location(self, name if is_shown(name) else None, subject)


def is_shown(name: str) -> bool:
    """Whether a name that a client made up is shown to it again."""
    return _SHOWN.fullmatch(name) is not None
