"""Sample programs that call an operation, one for each language."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import PurePath
from types import MappingProxyType

from sidecar.rest.pages.markup import Markup, element, join

# By the suffix of their file, in the order of the page.
LANGUAGES: Mapping[str, str] = MappingProxyType(
    {
        ".sh": "curl",
        ".py": "Python, with Authlib",
        ".mjs": "Node.js, with openid-client",
        ".go": "Go, with golang.org/x/oauth2",
        ".java": "Java, with Nimbus OAuth SDK",
    }
)
# The base URL in the files, at which the programs run as they are against `make run`.
BASE_URL = "http://127.0.0.1:8080"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A program. `text` has the URL that it calls once, with BASE_URL."""

    language: str
    text: str

    def calls(self, path: str) -> bool:
        """Whether the program calls `path`."""
        # A quote or a blank ends the URL, because another path may begin with this one.
        ends = (f"{BASE_URL}{path}{end}" for end in "\"' \n")
        return sum(self.text.count(url) for url in ends) == 1

    def at(self, base_url: str) -> str:
        """Return the program for the API at `base_url`."""
        return self.text.replace(BASE_URL, base_url)


def read(folder: Traversable) -> Sequence[Sample]:
    """Return the programs in `folder`. Raises KeyError for a file of another language."""
    entries = folder.iterdir() if folder.is_dir() else ()
    texts = {
        LANGUAGES[PurePath(file.name).suffix]: file.read_text("utf-8")
        for file in entries
        if file.is_file()
    }
    return [
        Sample(language=language, text=texts[language])
        for language in LANGUAGES.values()
        if language in texts
    ]


def render(samples: Sequence[Sample], base_url: str) -> Markup:
    """Return the programs for the API at `base_url`; the first one is unfolded."""
    return join(
        element(
            "details",
            element("summary", sample.language),
            # A wide program scrolls, so the keyboard must reach it.
            element(
                "pre",
                element("code", sample.at(base_url)),
                tabindex="0",
                role="group",
                aria_label=sample.language,
            ),
            class_="program",
            open=sample is samples[0],
        )
        for sample in samples
    )
