"""The pages in Chromium: accessibility by axe-core, layout, keyboard, print, and the policy."""

import pytest

from tests.rest.browser import faults_of
from tests.sidecar_process import serving

pytestmark = pytest.mark.tools


async def test_pages() -> None:
    """No page breaks a rule of axe, is wider than a phone, or asks for what its policy forbids."""
    async with serving("dev") as sidecar:
        base = f"http://{sidecar.addresses['rest']}"
        paths = ("/docs", "/problems", "/problems/invalid-request")
        assert await faults_of(*(f"{base}{path}" for path in paths)) == []


async def test_faults_are_found() -> None:
    """The checks find what is wrong with a page that is no page of ours."""
    page = (
        "data:text/html,<a class=x href=x>x</a><details><pre>folded</pre></details>"
        "<p style='width:2000px'>wide</p><script src='http://127.0.0.1:1/x'></script>"
    )
    faults = "\n".join(await faults_of(page))
    for fault in (
        "html-has-lang",
        "is 2",
        "first stop of the keyboard is x",
        "not all printed: folded",
        "request failed",
        "console: ",
    ):
        assert fault in faults
