"""A page as a reader and a browser see it."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from urllib.parse import urljoin

import httpx2

# The elements that HTML leaves open.
VOID = {"meta", "link"}


class Page(HTMLParser):
    """The texts, headings, links and ids of a page; its links are absolute.

    Raises AssertionError if an element is not closed in its turn, or if the page has something
    that its policy forbids: a script, an attribute with style or script, or another style.
    """

    def __init__(self, response: httpx2.Response) -> None:
        super().__init__()
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        self.texts: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.headings: list[int] = []
        self.preformatted: list[str] = []
        self.landmarks: list[str] = []
        self.policy = response.headers["content-security-policy"]
        self._url = str(response.url)
        self._open: list[str] = []
        self._pieces: list[str] = []
        self.feed(response.text)
        self.close()
        assert self._open == []

    @property
    def text(self) -> str:
        """All text, with one blank between words."""
        return " ".join("".join(self._pieces).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take the start of an element."""
        assert tag not in {"script", "img", "form", "base"}
        self._open += [] if tag in VOID else [tag]
        for name, value in attrs:
            assert name != "style"
            assert not name.startswith("on")
            if name == "href" and value and tag == "a":
                self.links.append(urljoin(self._url, value))
            if name == "id" and value:
                self.ids.append(value)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag in {"header", "nav", "main"}:
            self.landmarks.append(tag)
        if tag == "pre":
            self.preformatted.append("")

    def handle_endtag(self, tag: str) -> None:
        """Take its end."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Take its text; a style must be the one that the policy permits."""
        if "style" in self._open:
            digest = base64.b64encode(hashlib.sha256(data.encode()).digest()).decode()
            assert f"style-src 'sha256-{digest}'" in self.policy
            return
        self.texts.append(" ".join(data.split()))
        self._pieces.append(data)
        if "pre" in self._open:
            self.preformatted[-1] += data
