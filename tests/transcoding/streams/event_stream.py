"""A reader of event streams, as the HTML standard describes it, for tests.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event as a browser dispatches it. `id` is the last one that was given so far."""

    data: str
    id: str = ""
    type: str = "message"


def read_events(body: bytes) -> list[Event]:
    """Return the events in a whole stream; what follows the last blank line is none."""
    events: list[Event] = []
    data: list[str] = []
    last_id, type_ = "", ""
    lines = re.split(r"\r\n|\r|\n", body.decode().removeprefix("\ufeff"))
    for line in lines[:-1]:
        if not line:
            if data:
                events.append(Event(data="\n".join(data), id=last_id, type=type_ or "message"))
            data, type_ = [], ""
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "event":
            type_ = value
        elif name == "id" and "\0" not in value:
            last_id = value
    return events
