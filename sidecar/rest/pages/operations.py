"""An operation in the reference: how it is called, its responses and its errors."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import groupby
from urllib.parse import urlencode

from sidecar.problems import CATALOGUE, Definition
from sidecar.rest.pages import markdown, samples
from sidecar.rest.pages.document import Document, Node, Operation, anchor
from sidecar.rest.pages.markup import Markup, element, join
from sidecar.rest.pages.samples import Sample
from sidecar.rest.pages.schemas import Schemas, as_json, figure, preformatted
from sidecar.transcoding.media_type import JSON

_FORM = "application/x-www-form-urlencoded"
_PROBLEMS: Mapping[str, Definition] = {entry.slug: entry for entry in CATALOGUE.values()}
_COLUMNS = ("Status", "Problems")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of an operation. `id` is its place in the page, `places` are places in it."""

    id: str
    title: str
    content: Markup
    places: Mapping[str, str] = field(default_factory=dict)


class Operations:
    """Renders the operations of a document, with the samples that call them."""

    def __init__(self, document: Document, programs: Sequence[Sample]) -> None:
        self._document = document
        self._schemas = Schemas(document)
        self._samples = programs

    def parts(self, operation: Operation) -> Sequence[Part]:
        """Return the parts of an operation, without those that would be empty."""
        responses = self._responses(operation)
        good = {status: each for status, each in responses.items() if status.startswith("2")}
        bad = {status: each for status, each in responses.items() if status not in good}
        contents = {
            "Parameters": self._parameters(operation),
            "Request body": self._request(operation),
            **{f"Response {_phrase(code)}": self._response(each) for code, each in good.items()},
            "Sample programs": self._programs(operation),
        }
        parts = [
            Part(id=anchor(operation.id, title), title=title, content=content)
            for title, content in contents.items()
            if content
        ]
        return [*parts, self._errors(operation, bad)] if bad else parts

    def section(self, operation: Operation, parts: Sequence[Part]) -> Markup:
        """Return the section of an operation."""
        node = operation.node
        method = element("strong", operation.method, class_="method")
        url = element("code", f"{self._document.public_url}{operation.path}")
        return element(
            "section",
            element("h2", operation.summary),
            element("p", method, " ", url, class_="endpoint"),
            element("p", element("em", "deprecated")) if node.get("deprecated") else Markup(),
            markdown.render(node.get("description", "")),
            *(
                element("section", element("h3", part.title), part.content, id=part.id)
                for part in parts
            ),
            id=anchor(operation.id),
        )

    def _parameters(self, operation: Operation) -> Markup:
        parameters = map(self._document.resolve, operation.node.get("parameters", ()))
        rows = [
            self._schemas.member(
                parameter["name"],
                parameter["schema"],
                is_required=parameter.get("required", False),
                description=f"In the {parameter['in']}. {parameter.get('description', '')}",
            )
            for parameter in parameters
        ]
        return element("dl", *rows, class_="members") if rows else Markup()

    def _request(self, operation: Operation) -> Markup:
        content: Node = operation.node.get("requestBody", {}).get("content", {})
        return join(
            self._body({media: content[media] for media in medias})
            for medias in self._alike(content)
        )

    def _alike(self, content: Node) -> Iterator[Sequence[str]]:
        """Yield groups of media types whose schemas have the same members."""

        def members(media: str) -> list[str]:
            return list(
                self._document.resolve(content[media].get("schema", {})).get("properties", ())
            )

        for _, medias in groupby(content, members):
            yield list(medias)

    def _body(self, content: Node) -> Markup:
        """Return the request body in media types whose schemas have the same members."""
        names = join((element("code", media) for media in content), " or ")
        schema, *others = (each.get("schema", {}) for each in content.values())
        variants = dict(zip(list(content)[1:], others, strict=True))
        resolved = (self._document.resolve(each) for each in (schema, *others))
        descriptions = dict.fromkeys(each.get("description", "") for each in resolved)
        text = element(
            "div",
            *map(markdown.render, descriptions),
            element("p", "Media type: ", names),
            self._schemas.members(schema, variants),
        )
        examples = [
            figure(f"{title}: body as {_short(media)}", _written(media, value))
            for media, each in content.items()
            for title, value in self._examples(each)
        ]
        return element("div", text, element("div", *examples), class_="pair")

    def _examples(self, media: Node) -> Iterator[tuple[str, object]]:
        if "example" in media:
            yield "Example", media["example"]
        for name, reference in media.get("examples", {}).items():
            example = self._document.resolve(reference)
            yield example.get("summary", name), example["value"]

    def _responses(self, operation: Operation) -> Mapping[str, Node]:
        responses: Node = operation.node["responses"]
        return {status: self._document.resolve(each) for status, each in responses.items()}

    def _response(self, response: Node) -> Markup:
        parts = [markdown.render(response["description"]), self._headers(response)]
        shown = []
        for media, each in response.get("content", {}).items():
            parts.append(element("p", "Media type: ", element("code", media)))
            parts.append(self._schemas.members(each.get("schema", {})))
            shown += [figure(title, _written(media, v)) for title, v in self._examples(each)]
        return element("div", element("div", *parts), element("div", *shown), class_="pair")

    def _headers(self, response: Node) -> Markup:
        headers = response.get("headers", {})
        if not headers:
            return Markup()
        links = (
            element("a", element("code", name), href=f"#{anchor('header', name)}")
            for name in headers
        )
        return element("p", "Header fields: ", join(links, ", "), class_="fields")

    def _programs(self, operation: Operation) -> Markup:
        called = [each for each in self._samples if each.calls(operation.path)]
        return samples.render(called, self._document.public_url)

    def _errors(self, operation: Operation, responses: Mapping[str, Node]) -> Part:
        head = element("tr", *(element("th", name, scope="col") for name in _COLUMNS))
        rows = (self._row(operation, *each) for each in responses.items())
        table = element("table", element("thead", head), element("tbody", *rows))
        sections = (self._error(operation, *each) for each in responses.items())
        return Part(
            id=anchor(operation.id, "errors"),
            title="Errors",
            content=join([table, *sections]),
            places={status: _place(operation, status) for status in responses},
        )

    def _row(self, operation: Operation, status: str, response: Node) -> Markup:
        links = (
            element("a", entry.title, href=f"#{_place(operation, entry.slug)}")
            for entry in self._problems(response)
        )
        link = element("a", _phrase(status), href=f"#{_place(operation, status)}")
        return element("tr", element("td", link), element("td", join(links, ", ")))

    def _problems(self, response: Node) -> Sequence[Definition]:
        """Return the problems of which a response has an example."""
        media: Node = next(iter(response.get("content", {}).values()), {})
        return [_PROBLEMS[slug] for slug in media.get("examples", ()) if slug in _PROBLEMS]

    def _error(self, operation: Operation, status: str, response: Node) -> Markup:
        media: Node = next(iter(response.get("content", {}).values()), {})
        problems = [
            self._problem(operation, entry, self._document.resolve(media["examples"][entry.slug]))
            for entry in self._problems(response)
        ]
        return element(
            "section",
            element("h4", _phrase(status)),
            join(problems) if problems else markdown.render(response["description"]),
            self._headers(response),
            class_="status",
            id=_place(operation, status),
        )

    def _problem(self, operation: Operation, entry: Definition, example: Node) -> Markup:
        codes = (element("code", entry.karmo_code), " ", element("code", entry.oauth_error))
        text = element(
            "div",
            element("h5", element("a", entry.title, href=f"problems/{entry.slug}")),
            element("p", *codes, class_="codes"),
            element("p", element("b", "When: "), entry.meaning),
            element("p", element("b", "What to do: "), entry.remedy),
        )
        shown = element(
            "details",
            element("summary", f"Example: {entry.title}"),
            preformatted(as_json(example["value"])),
        )
        place = _place(operation, entry.slug)
        return element("article", text, shown, class_="problem pair", id=place)


def _place(operation: Operation, name: str) -> str:
    return anchor(operation.id, name)


def _phrase(status: str) -> str:
    return f"{status} {HTTPStatus(int(status)).phrase}" if status.isdigit() else status


def _written(media: str, value: object) -> str:
    if media == _FORM and isinstance(value, Mapping):
        return urlencode(value, doseq=True)
    return as_json(value)


def _short(media: str) -> str:
    return {_FORM: "a form", JSON: "JSON"}.get(media, media)
