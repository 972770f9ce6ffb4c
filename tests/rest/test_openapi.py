"""The OpenAPI document with a second service: nothing of HTTP and OAuth depends on examples."""

from collections.abc import Mapping
from typing import Any

import pytest
from google.api.http_pb2 import HttpRule
from google.protobuf.descriptor import ServiceDescriptor
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from sidecar.api import EXAMPLES, SERVICES
from sidecar.problems import Problem, Reason
from sidecar.rest import openapi
from sidecar.rest.openapi import Examples
from sidecar.transcoding import JsonFormat, Options, SchemaError
from tests.transcoding.library import make, method, service
from tests.ways import PUBLIC_URL

FORM, JSON = "application/x-www-form-urlencoded", "application/json"
NAME = "library.v1.Library.Look"
API: Any = openapi.document(SERVICES, EXAMPLES, public_url=PUBLIC_URL)
TOKEN = API["paths"]["/v1/oauth/token"]
Operations = Mapping[str, Any]
Tree = dict[str, Any]


def document(
    library: ServiceDescriptor, examples: Mapping[str, Examples], options: Options | None = None
) -> Any:
    """Return the document of a library beside the API; it is valid."""
    services = {**SERVICES, library: options or Options()}
    tree = openapi.document(services, {**EXAMPLES, **examples}, public_url=PUBLIC_URL)
    OpenAPIV31SpecValidator(tree).validate()
    return tree


def described(library: ServiceDescriptor, examples: Mapping[str, Examples]) -> Operations:
    """Return the operations of a library beside the API, by method and path."""
    tree = document(library, examples)
    assert tree["paths"].pop("/v1/oauth/token") == TOKEN
    return {
        f"{name} {path}": operation
        for path, item in tree["paths"].items()
        for name, operation in item.items()
    }


def bindings(takes: str = "Shelf") -> ServiceDescriptor:
    """Return a service whose method has a whole body, a part of one, and none."""
    others = [
        HttpRule(get="/v1/shelves/{name}"),
        HttpRule(put="/v1/shelves/{name}", body="*"),
        HttpRule(patch="/v1/shelves", body="theme", response_body="name"),
    ]
    rule = HttpRule(post="/v1/shelves", body="*", additional_bindings=others)
    return service(method("Look", rule, takes=takes))


def test_a_method_without_examples() -> None:
    """Every operation has the errors, the headers and the security of the API."""
    operations = described(bindings(), {})
    assert len(operations) == 4
    errors = {**TOKEN["post"]["responses"]}
    success = errors.pop("200")
    for operation in operations.values():
        responses = operation["responses"]
        assert responses.pop("200")["headers"] == success["headers"]
        assert responses == errors
        assert operation["security"] == TOKEN["post"]["security"]
    assert "requestBody" not in operations["get /v1/shelves/{name}"]


def test_examples_of_whole_messages() -> None:
    """Examples are only where the body is the whole message, and each is valid."""
    examples = Examples(
        requests={"A shelf": make("Shelf", name="a")},
        response=make("Receipt", name="a"),
        problems={},
    )
    operations = described(bindings(), {NAME: examples})
    having = {
        name: [media for media, each in body["content"].items() if "examples" in each]
        for name, operation in operations.items()
        if (body := operation.get("requestBody"))
    }
    assert having == {
        "post /v1/shelves": [FORM, JSON],
        "put /v1/shelves/{name}": [],
        "patch /v1/shelves": [],
    }
    for name, operation in operations.items():
        content = operation["responses"]["200"]["content"][JSON]
        assert ("example" in content) is (name != "patch /v1/shelves")
    assert "requestBody" not in operations["get /v1/shelves/{name}"]
    form = operations["post /v1/shelves"]["requestBody"]["content"][FORM]
    value = form["examples"]["a-shelf"]["value"]
    assert list(Draft202012Validator(form["schema"]).iter_errors(value)) == []


def test_an_example_that_a_form_cannot_hold() -> None:
    """An example with a message inside is an example of JSON only."""
    nested = make("Receipt", name="a", shelf={"name": "b"})
    flat = make("Receipt", name="a")
    examples = Examples(requests={"Nested": nested, "Flat": flat}, response=flat, problems={})
    library = service(
        method("Look", HttpRule(post="/v1/receipts", body="*"), takes="Receipt", gives="Receipt")
    )
    (operation,) = described(library, {NAME: examples}).values()
    content = operation["requestBody"]["content"]
    assert list(content[FORM]["examples"]) == ["flat"]
    assert list(content[JSON]["examples"]) == ["nested", "flat"]


EVERY = JsonFormat(enum_numbers=True, proto_names=True, omit_defaults=True, int64_numbers=True)
SENT: Tree = {"shelf_code": "a", "copies": 5, "mood": 1}
FORMATS: Mapping[JsonFormat, tuple[Tree, Tree]] = {
    JsonFormat(): (
        {"shelfCode": "a", "copies": "5", "mood": "MOOD_MERRY"},
        {
            "name": "",
            "shelfCode": "a",
            "copies": "5",
            "pages": 0,
            "lent": False,
            "tags": [],
            "mood": "MOOD_MERRY",
            "cover": "",
        },
    ),
    EVERY: (SENT, SENT),
}


@pytest.mark.parametrize(("json_format", "trees"), FORMATS.items(), ids=["default", "every"])
def test_examples_in_the_format_of_a_service(
    json_format: JsonFormat, trees: tuple[Tree, Tree]
) -> None:
    """Examples are in the format of their service, and valid by its schemas."""
    message = make("Receipt", **SENT)
    examples = Examples(requests={"A": message}, response=message, problems={})
    rule = HttpRule(post="/v1/receipts", body="*")
    library = service(method("Look", rule, takes="Receipt", gives="Receipt"))
    tree = document(library, {NAME: examples}, Options(json_format=json_format))
    operation = tree["paths"]["/v1/receipts"]["post"]
    request = operation["requestBody"]["content"][JSON]
    response = operation["responses"]["200"]["content"][JSON]
    found = (request["examples"]["a"]["value"], response["example"])
    assert found == trees
    for example, content in zip(found, (request, response), strict=True):
        schema = {**content["schema"], "components": tree["components"]}
        assert list(Draft202012Validator(schema).iter_errors(example)) == []


def test_examples_of_bytes() -> None:
    """Bodies of bytes have no examples of JSON."""
    body = "google.api.HttpBody"
    library = service(method("Look", HttpRule(post="/v1/a", body="*"), takes=body, gives=body))
    examples = Examples(requests={"A": make("Shelf")}, response=make("Shelf"), problems={})
    (operation,) = described(library, {NAME: examples}).values()
    assert operation["requestBody"]["content"] == {"*/*": {}}
    assert operation["responses"]["200"]["content"] == {"*/*": {}}


@pytest.mark.parametrize("name", ["library.v1.Library.Unknown", "library.v1.Library.NoRule"])
def test_examples_of_no_operation(name: str) -> None:
    """Examples of a method that the document does not describe are refused at the start."""
    library = service(method("Look", HttpRule(get="/v1/a")), method("NoRule"))
    examples = Examples(requests={}, response=make("Receipt"), problems={})
    with pytest.raises(SchemaError) as caught:
        described(library, {name: examples})
    assert caught.value.violations == (f"{name}: has examples, but no operation",)


def test_problems_of_several_methods() -> None:
    """The problems of all methods are put together."""
    (token,) = EXAMPLES.values()
    reason: Reason = next(iter(token.problems))
    other = Examples(
        requests={}, response=make("Receipt"), problems={reason: Problem(reason=reason)}
    )
    problems = openapi.problems_of({"a": token, "b": other})
    assert problems == {**token.problems, **other.problems}
