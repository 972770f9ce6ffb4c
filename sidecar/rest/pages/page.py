"""The frame of every page: its head, its style, and the links to the other pages."""

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from string import Template

from sidecar.rest.fixed_content import POLICY, FixedContent
from sidecar.rest.pages.markup import Markup, element, join

HTML = "text/html"
_FOLDER = files("sidecar.rest.pages")
_FRAME = Template(_FOLDER.joinpath("page.html").read_text("utf-8"))
_STYLE = _FOLDER.joinpath("page.css").read_text("utf-8")
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Content-Security-Policy": f"{POLICY}; img-src 'self'; style-src 'sha256-{_STYLE_HASH}'",
}
# The pages that each page links to, by their path.
_PLACES = {"docs": "Reference", "problems": "Problems", "openapi.json": "OpenAPI"}


def render(
    title: str,
    content: Markup,
    *,
    api: str,
    path: str,
    contents: Markup = Markup(),  # noqa: B008 immutable
    headers: Mapping[str, str] | None = None,
) -> FixedContent:
    """Return the page with `content`, which begins with a heading.

    `api` is the name of the API, and `path` that of the page without the first slash. All links
    are relative, because a proxy may serve the API below a path of its own. `contents` is the
    table of contents. `headers` are further fields of the response.
    """
    root = root_of(path)
    text = _FRAME.substitute(
        title=join([title] if title == api else [title, api], " · "),
        style=_STYLE,
        root=root,
        api=join([api]),
        places=join(_place(name, label, path, root) for name, label in _PLACES.items()),
        contents=contents,
        content=content,
    )
    return FixedContent(
        data=text.encode(), media_type=HTML, headers={**_HEADERS, **(headers or {})}
    )


def root_of(path: str) -> str:
    """Return the relative URL of the root of the API in the page at `path`."""
    return "../" * path.count("/")


def _place(name: str, label: str, path: str, root: str) -> Markup:
    current = {"aria_current": "page"} if name == path else {}
    return element("li", element("a", label, href=f"{root}{name}", **current))
