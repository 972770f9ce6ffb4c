"""Paths of OpenAPI: each template becomes one, with a parameter for each wildcard."""

import pytest
from google.api.http_pb2 import HttpRule

from sidecar.transcoding.errors import SchemaViolations
from sidecar.transcoding.router import Router
from sidecar.transcoding.rules import read_rules
from tests.transcoding import library
from tests.transcoding.openapi.described import document, only_operation

# A template, the path, and the names of its parameters.
PATHS = [
    ("/v1/shelves", "/v1/shelves", []),
    ("/v1/shelves/{name}", "/v1/shelves/{name}", ["name"]),
    ("/v1/shelves/{name}:lend", "/v1/shelves/{name}:lend", ["name"]),
    ("/v1/{name=shelves/*}", "/v1/shelves/{name_1}", ["name_1"]),
    ("/v1/{name=shelves/*/rows/*}", "/v1/shelves/{name_1}/rows/{name_2}", ["name_1", "name_2"]),
    ("/v1/{name=**}", "/v1/{name}", ["name"]),
    ("/v1/{name=shelves/**}/end", "/v1/shelves/{name_1}/end", ["name_1"]),
    ("/v1/*/{shelf_code}", "/v1/{segment}/{shelfCode}", ["segment", "shelfCode"]),
    ("/v1/*/*", "/v1/{segment}/{segment_1}", ["segment", "segment_1"]),
    ("/v1/%7Bname%7D/a%20b%3Ac", "/v1/%7Bname%7D/a%20b%3Ac", []),
]


@pytest.mark.parametrize(("template", "path", "names"), PATHS)
def test_a_template_is_a_path(template: str, path: str, names: list[str]) -> None:
    """A template has a path, whose parameters are required."""
    api = document(library.method("A", HttpRule(get=template), takes="Shelf"))
    assert list(api["paths"]) == [path]
    parameters = only_operation(api).get("parameters", [])
    inner = [each for each in parameters if each["in"] == "path"]
    assert [each["name"] for each in inner] == names
    assert all(each["required"] is True for each in inner)


def test_a_nested_field() -> None:
    """The parameter of a nested field has its dotted name, and the type of the field."""
    rule = HttpRule(get="/v1/{scalars.an_int32}")
    api = document(library.method("A", rule, takes="Book"))
    (parameter,) = [each for each in only_operation(api)["parameters"] if each["in"] == "path"]
    assert parameter["name"] == "scalars.anInt32"
    assert parameter["schema"]["format"] == "int32"


def test_a_parameter_of_several_segments() -> None:
    """A parameter that may have slashes says how to send them; a part of a value is a string."""
    api = document(library.method("A", HttpRule(get="/v1/{name=**}"), takes="Shelf"))
    (parameter,) = [each for each in only_operation(api)["parameters"] if each["in"] == "path"]
    assert parameter["description"] == (
        "It may be empty, and it may contain slashes. Send a slash as it is, not as `%2F`, which "
        "is not decoded."
    )
    assert parameter["schema"] == {"type": "string"}


def test_paths_that_differ_only_in_names() -> None:
    """Templates of one shape are one path, with the names of the first."""
    api = document(
        library.method("A", HttpRule(get="/v1/{name}"), takes="Shelf"),
        library.method("B", HttpRule(delete="/v1/{theme}"), takes="Shelf"),
    )
    assert list(api["paths"]) == ["/v1/{name}"]
    item = api["paths"]["/v1/{name}"]
    assert sorted(item) == ["delete", "get"]
    assert [each["name"] for each in item["delete"]["parameters"]] == ["name", "name", "shelfCode"]


@pytest.mark.parametrize("template", ["/v1/{name=**}", "/v1/{name=**}/end", "/v1/{name=**}:lend"])
@pytest.mark.parametrize("value", ["", "a/b", "a%2Fb"])
def test_a_long_parameter_as_the_description_says(template: str, value: str) -> None:
    """The router takes an empty value and slashes, and leaves %2F as it is."""
    (path,) = document(library.method("A", HttpRule(get=template), takes="Shelf"))["paths"]
    (rule,) = read_rules(
        [library.service(library.method("A", HttpRule(get=template)))], SchemaViolations()
    )
    router: Router[str] = Router()
    router.add(rule, "A")
    assert router.find("GET", path.replace("{name}", value)).variables == (value,)
