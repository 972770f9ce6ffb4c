"""The subset of Markdown in descriptions, and that nothing in them becomes markup."""

from collections.abc import Mapping

import pytest

from sidecar.rest.pages import markdown
from sidecar.rest.pages.markup import Markup, element, join

CASES: Mapping[str, tuple[str, str]] = {
    "nothing": ("", ""),
    "a paragraph": ("One.\nOr two.\n", "<p>One.\nOr two.</p>"),
    "paragraphs": ("One.\n\n \n\nTwo.", "<p>One.</p><p>Two.</p>"),
    "code": ("a `b` and `<c>`", "<p>a <code>b</code> and <code>&lt;c&gt;</code></p>"),
    "an open code span": ("a ` b", "<p>a ` b</p>"),
    "a list": ("* a\n* `b`\n  c", "<ul><li>a</li><li><code>b</code>\n  c</li></ul>"),
    "a list after text": ("Of:\n* a", "<p>Of:</p><ul><li>a</li></ul>"),
    "an asterisk": ("a * b\n*c", "<p>a * b\n*c</p>"),
    "markup": ("<b>&amp;\"'", "<p>&lt;b&gt;&amp;amp;&quot;&#x27;</p>"),
    "other Markdown": ("# a [b](c) **d**", "<p># a [b](c) **d**</p>"),
}


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES)
def test_render(text: str, expected: str) -> None:
    """Paragraphs, lists and code spans become elements, and all else is text."""
    assert markdown.render(text) == expected


def test_element() -> None:
    """Content and attributes are escaped once, and markup is kept."""
    inner = element("b", "<", Markup("<br>"))
    made = element("a", inner, "&", href='"', aria_label="x", class_="y", open=True, id=False)
    assert made == ('<a href="&quot;" aria-label="x" class="y" open><b>&lt;<br></b>&amp;</a>')


def test_join() -> None:
    """A separator is escaped like a part."""
    assert join(["a", Markup("<br>")], "<") == "a&lt;<br>"
