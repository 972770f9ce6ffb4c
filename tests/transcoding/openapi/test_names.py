"""Names in a document: no two tags and no two operations share one."""

from google.api.http_pb2 import HttpRule

from sidecar.transcoding import Options
from tests.transcoding import library
from tests.transcoding.openapi.described import document, document_of, operations
from tests.transcoding.openapi.sources import services_of

SOURCE = """
package {package};
message Nothing {{}}
service Service {{
  rpc Get(Nothing) returns (Nothing) {{ option (google.api.http) = {{ get: "/{package}" }}; }}
}}
service {other} {{
  rpc Get{other}(Nothing) returns (Nothing) {{
    option (google.api.http) = {{ get: "/{other}" }};
  }}
}}
"""


def test_services_of_one_name() -> None:
    """Services that share a name have their full names, as tags and in the ids of operations."""
    services = services_of(
        SOURCE.format(package="a.v1", other="Some"), SOURCE.format(package="a.v2", other="Other")
    )
    api = document_of(dict.fromkeys(services, Options()))
    assert [tag["name"] for tag in api["tags"]] == ["a.v1.Service", "Some", "a.v2.Service", "Other"]
    ids = {operation["operationId"]: operation["tags"] for operation in operations(api)}
    assert ids == {
        "a_v1_Service_get": ["a.v1.Service"],
        "getSome": ["Some"],
        "a_v2_Service_get": ["a.v2.Service"],
        "getOther": ["Other"],
    }


def test_an_id_takes_no_name_from_another_method() -> None:
    """The number of a further binding makes no id that another method has, in any order."""
    rule = HttpRule(get="/v1/a", additional_bindings=[HttpRule(get="/v1/b")])
    two = library.method("A", rule)
    for other in ("A_2", "a"):
        one = library.method(other, HttpRule(get="/v1/c"))
        for methods in ((one, two), (two, one)):
            ids = [each["operationId"] for each in operations(document(*methods))]
            assert len(set(ids)) == 3
            assert {"A_2": {"a", "a_2", "a_3"}, "a": {"a", "a_2", "a_3"}}[other] == set(ids)
