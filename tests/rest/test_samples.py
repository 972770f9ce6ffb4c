"""The sample programs of the reference: which there are, and what they call."""

from pathlib import Path

import pytest

from sidecar.api import read_samples
from sidecar.rest.pages import samples
from sidecar.rest.pages.samples import BASE_URL, LANGUAGES, Sample

TOKEN = "/v1/oauth/token"


@pytest.mark.parametrize("quote", ['"{}"', "'{}'", "{} ", "{}\n"])
def test_a_program_and_its_url(quote: str) -> None:
    """A program calls the path at the end of its URL, and no other path."""
    sample = Sample(language="x", text=f"get {quote.format(BASE_URL + TOKEN)}")
    assert sample.calls(TOKEN)
    assert not sample.calls("/v1/oauth")
    assert sample.at("https://api.example.test") == (
        f"get {quote.format('https://api.example.test' + TOKEN)}"
    )


def test_order(tmp_path: Path) -> None:
    """The programs of a folder are in the order of the page, whatever their names."""
    for suffix in sorted(LANGUAGES):
        (tmp_path / f"x{suffix}").write_text(suffix, "utf-8")
    (tmp_path / "__pycache__").mkdir()
    read = {sample.language: sample.text for sample in samples.read(tmp_path)}
    assert list(read.items()) == [(language, suffix) for suffix, language in LANGUAGES.items()]


def test_an_unknown_language(tmp_path: Path) -> None:
    """A program without a title is a mistake that stops the start."""
    (tmp_path / "token.zig").write_text("", "utf-8")
    with pytest.raises(KeyError, match="zig"):
        samples.read(tmp_path)


def test_no_folder(tmp_path: Path) -> None:
    """A folder that does not exist has no programs."""
    assert samples.read(tmp_path / "none") == []


def test_the_product_has_a_program_for_each_language() -> None:
    """No program is missing, and each calls the token endpoint."""
    programs = read_samples()
    assert [program.language for program in programs] == list(LANGUAGES.values())
    assert all(program.calls(TOKEN) for program in programs)
