"""The reference: one page with everything that the OpenAPI document says, and the limits."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sidecar.rest.pages import markdown, page
from sidecar.rest.pages.document import Document, Node, Operation, anchor, name_of
from sidecar.rest.pages.markup import Markup, element, join
from sidecar.rest.pages.operations import Operations, Part
from sidecar.rest.pages.samples import Sample
from sidecar.rest.pages.schemas import Schemas, as_json, figure

_PATH = "docs"
_PARENTHESIS = re.compile(r"\s*\([^()]*\)$")
_IN_BODY = "Credentials in the body"
_IN_BODY_TEXT = markdown.render(
    "A request without the `Authorization` header field has the credentials in its body."
)
_COLUMNS = ("Limit", "Value", "Beyond it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A limit of the API in words: what it limits, its value, and what happens beyond it."""

    name: str
    value: str
    beyond: str


def route(document: Document, limits: Sequence[Limit], samples: Sequence[Sample]) -> Route:
    """Return the route of the page. Raises ValueError for a sample that calls no operation."""
    for sample in samples:
        if not any(sample.calls(operation.path) for operation in document.operations()):
            raise ValueError(f"the sample for {sample.language} calls no operation of the API")
    reference = _Reference(document, samples)
    content = page.render(
        document.title,
        reference.content(limits),
        api=document.title,
        path=_PATH,
        contents=reference.contents(limits),
    )

    async def show(request: Request) -> Response:
        return content.respond(request)

    return Route(f"/{_PATH}", show)


class _Reference:
    """Renders the page and its table of contents."""

    def __init__(self, document: Document, samples: Sequence[Sample]) -> None:
        self._document = document
        self._schemas = Schemas(document)
        self._operations = Operations(document, samples)
        self._parts = [(each, self._operations.parts(each)) for each in document.operations()]

    def content(self, limits: Sequence[Limit]) -> Markup:
        """Return the sections of the page under its heading."""
        return join(
            [
                self._overview(),
                self._authentication(),
                *(self._operations.section(*each) for each in self._parts),
                *(_section(title, body) for title, body in self._ending(limits).items() if body),
            ]
        )

    def contents(self, limits: Sequence[Limit]) -> Markup:
        """Return the table of contents."""
        entries: list[Markup] = []
        if self._document.component("securitySchemes"):
            entries.append(_link("Authentication"))
        entries += [_entry(*each) for each in self._parts]
        entries += [_link(title) for title, body in self._ending(limits).items() if body]
        return element("nav", element("ul", *entries), class_="contents", aria_label="Contents")

    def _overview(self) -> Markup:
        info = self._document.tree["info"]
        tags: Sequence[Node] = self._document.tree["tags"]
        return join(
            [
                element("h1", self._document.title),
                element("div", markdown.render(info.get("description", "")), class_="lead"),
                element(
                    "dl",
                    *(element("dt", "Base URL"), element("dd", _code(self._document.public_url))),
                    *(element("dt", "Version"), element("dd", self._document.version)),
                    *(part for tag in tags if "description" in tag for part in _tag(tag)),
                    class_="facts",
                ),
            ]
        )

    def _authentication(self) -> Markup:
        schemes = self._document.component("securitySchemes")
        rows = [
            element("div", element("dt", _scheme(each)), element("dd", _description(each)))
            for each in schemes.values()
        ]
        if not rows:
            return Markup()
        is_optional = any(
            {} in operation.node.get("security", ()) for operation in self._document.operations()
        )
        if is_optional:
            rows.append(element("div", element("dt", _IN_BODY), element("dd", _IN_BODY_TEXT)))
        return _section("Authentication", element("dl", *rows, class_="members"))

    def _ending(self, limits: Sequence[Limit]) -> Mapping[str, Markup]:
        """Return the sections after the operations."""
        return {
            "Problem document": join(self._errors()),
            "Header fields": self._headers(),
            "Limits": _limits(limits),
        }

    def _errors(self) -> Iterator[Markup]:
        """Yield each schema of error responses, with the first example of it."""
        found: dict[str, dict[str, Node]] = {}
        for response in self._document.component("responses").values():
            for media, each in response.get("content", {}).items():
                found.setdefault(name_of(each["schema"]) or "", {}).setdefault(media, each)
        for contents in found.values():
            first = next(iter(contents.values()))
            text = element(
                "div",
                _description(self._document.resolve(first["schema"])),
                element("p", "Media type: ", join(map(_code, contents), " or ")),
                self._schemas.members(first["schema"]),
            )
            examples = map(self._document.resolve, list(first.get("examples", {}).values())[:1])
            shown = (figure(each["summary"], as_json(each["value"])) for each in examples)
            yield element("div", text, element("div", *shown), class_="pair")

    def _headers(self) -> Markup:
        headers = self._document.component("headers")
        rows = (
            self._schemas.member(
                name,
                each["schema"],
                is_required=False,
                description=each.get("description"),
                id_=anchor("header", name),
            )
            for name, each in headers.items()
        )
        return element("dl", *rows, class_="members") if headers else Markup()


def _section(title: str, body: Markup) -> Markup:
    return element("section", element("h2", title), body, id=anchor(title))


def _tag(tag: Node) -> tuple[Markup, Markup]:
    return element("dt", tag["name"]), element("dd", markdown.inline(tag["description"]))


def _scheme(scheme: Node) -> str:
    kind = scheme.get("scheme", scheme["type"])
    return f"HTTP {kind.capitalize()} authentication" if scheme["type"] == "http" else kind


def _description(node: Node) -> Markup:
    return markdown.render(node.get("description", ""))


def _limits(limits: Sequence[Limit]) -> Markup:
    if not limits:
        return Markup()
    head = element("tr", *(element("th", name, scope="col") for name in _COLUMNS))
    rows = (
        element(
            "tr", element("td", each.name), element("td", each.value), element("td", each.beyond)
        )
        for each in limits
    )
    return element("table", element("thead", head), element("tbody", *rows), class_="limits")


def _entry(operation: Operation, parts: Sequence[Part]) -> Markup:
    name = _PARENTHESIS.sub("", operation.summary)  # short enough for a narrow column
    link = element("a", name, href=f"#{anchor(operation.id)}")
    return element("li", link, element("ul", *map(_part, parts)))


def _part(part: Part) -> Markup:
    link = element("a", part.title, href=f"#{part.id}")
    places = (
        element("li", element("a", name, href=f"#{place}")) for name, place in part.places.items()
    )
    return element("li", link, element("ul", *places, class_="places") if part.places else Markup())


def _link(title: str) -> Markup:
    return element("li", element("a", title, href=f"#{anchor(title)}"))


def _code(text: str) -> Markup:
    return element("code", text)
