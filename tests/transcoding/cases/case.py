"""A case: a request, what ours must answer to it, and what Envoy answers where it differs."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """200: `method` was called with `message`, which is JSON without what goes without saying."""

    method: str
    message: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """200: `method` answered with content that is not JSON, and its media type if it has one."""

    method: str
    media_type: str
    data: bytes


# An HTTP status: the request was refused, or the call failed.
Outcome: TypeAlias = Seen | Content | int
# Envoy waits for ever, so that it is not asked.
SILENCE = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A request and its outcomes; `because` names the difference where `envoy` has another one."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    ours: Outcome
    envoy: Outcome
    because: str = ""

    @property
    def name(self) -> str:
        """The request in one line."""
        fields = [value for name, value in self.headers if value != JSON]
        line = (self.method, self.target[:80], *fields)
        if self.body is None:
            return " ".join(line)
        typed = any(name == "Content-Type" for name, _ in self.headers)
        return " ".join((*line, *([] if typed else ["untyped"]), repr(self.body)[1:120]))


def seen(method: str, /, **message: object) -> Seen:
    """Return that `method` was called with a message of these members."""
    return Seen(method=method, message=message)


def get(
    target: str,
    ours: Outcome,
    *,
    envoy: Outcome | None = None,
    because: str = "",
    by: str = "GET",
    accept: str | None = None,
) -> Case:
    """Return a request without a body."""
    return Case(
        method=by,
        target=target,
        headers=() if accept is None else (("Accept", accept),),
        ours=ours,
        envoy=_or(envoy, ours),
        because=because,
    )


def send(
    target: str,
    body: str | bytes,
    ours: Outcome,
    *,
    envoy: Outcome | None = None,
    because: str = "",
    by: str = "POST",
    media_type: str | None = JSON,
    headers: Iterable[tuple[str, str]] = (),
) -> Case:
    """Return a request with a body, of JSON unless `media_type` says else."""
    named = () if media_type is None else (("Content-Type", media_type),)
    return Case(
        method=by,
        target=target,
        headers=(*named, *headers),
        body=body.encode() if isinstance(body, str) else body,
        ours=ours,
        envoy=_or(envoy, ours),
        because=because,
    )


def _or(envoy: Outcome | None, ours: Outcome) -> Outcome:
    return ours if envoy is None else envoy
