"""An HTTP request as a value, and its ASGI scope."""

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

# RFC 9110 section 5.6.2: token, of which methods and names of header fields are made.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# RFC 9112 section 3.2.1: origin-form. No other character can be in a request line.
_TARGET = re.compile(r"/[\x21-\x7e]*")
# RFC 9110 section 5.5: what may not be in the value of a field.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """A request of HTTP/1.1. Raises ValueError for what no such request can hold.

    `target` is path and query as in the request line, still percent-encoded. `headers` are names
    and values. The text of an error quotes none of them.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def __post_init__(self) -> None:
        if not _TOKEN.fullmatch(self.method):
            raise ValueError("the method must be a token, such as POST (RFC 9110 section 9.1)")
        if not _TARGET.fullmatch(self.target):
            raise ValueError(
                "the target must be a path with an optional query, such as /v1/items?x=1; "
                "percent-encode spaces and characters that are not ASCII"
            )
        for name, value in self.headers:
            if not _TOKEN.fullmatch(name):
                raise ValueError("a header must have a name and a colon, as in 'Accept: */*'")
            if _CONTROL.search(value):
                raise ValueError("a header must have no line end or control character")

    @property
    def raw_path(self) -> str:
        """The path of the target, still percent-encoded."""
        return self.target.partition("?")[0]

    def scope(self) -> dict[str, Any]:
        """Return the ASGI scope, with the length of the body unless a header announces it."""
        fields = [
            (name.lower().encode(), value.strip(" \t").encode("utf-8", "surrogateescape"))
            for name, value in self.headers
        ]
        announced = {b"content-length", b"transfer-encoding"} & {name for name, _ in fields}
        if self.body and not announced:
            fields.append((b"content-length", str(len(self.body)).encode()))
        return {
            "type": "http",
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": unquote(self.raw_path),
            "raw_path": self.raw_path.encode(),
            "query_string": self.target.partition("?")[2].encode(),
            "root_path": "",
            "headers": fields,
        }


def parse(
    method: str, target: str, headers: Iterable[str], body: str | None, *, max_body_bytes: int
) -> HttpRequest:
    """Return the request of a command line.

    `headers` are texts such as `Accept: */*`. `body` is the path of a file, or `-` for standard
    input; of one that is larger than `max_body_bytes` only the first byte beyond is read. Raises
    ValueError for what no request can hold and for a file that cannot be read.
    """
    fields = (text.partition(":") for text in headers)
    try:
        data = _read(body, max_body_bytes + 1) if body is not None else b""
    except OSError as error:
        raise ValueError(f"cannot read the body: {error.strerror}") from None
    return HttpRequest(
        method=method,
        target=target,
        headers=tuple((name if colon else "", value) for name, colon, value in fields),
        body=data,
    )


def _read(path: str, size: int) -> bytes:
    if path == "-":
        return sys.stdin.buffer.read(size)
    with Path(path).open("rb") as file:
        return file.read(size)
