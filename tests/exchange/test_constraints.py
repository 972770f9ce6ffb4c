"""What the schema says of a token request is what the servicer refuses."""

import jsonschema_rs
from hypothesis import example, given, settings
from hypothesis import strategies as st
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest
from karmo.problem.v1 import problem_details_pb2 as pb

from sidecar.api import EXAMPLES, SERVICES
from sidecar.exchange.credentials import TokenRequest, find_problem
from sidecar.rest import openapi
from sidecar.secret import Secret
from tests.properties import many
from tests.ways import PUBLIC_URL

DOCUMENT = openapi.document(SERVICES, EXAMPLES, public_url=PUBLIC_URL)
# Its regular expressions are those of ECMA-262, in which $ is never before a line break.
VALIDATOR = jsonschema_rs.Draft202012Validator(
    {
        "$ref": f"#/components/schemas/{ExchangeTokenRequest.DESCRIPTOR.name}",
        "components": DOCUMENT["components"],
    }
)
# Most lie near the border: printable ASCII.
texts = st.one_of(
    st.just(""),
    st.text(st.characters(min_codepoint=0x1E, max_codepoint=0x81), max_size=8),
    st.text(max_size=8),
)
grant_types = st.one_of(
    st.sampled_from(
        ["client_credentials", "Client_Credentials", "client_credentials ", "client_credentials\n"]
    ),
    texts,
)


@settings(many)
@given(grant_type=grant_types, client_id=texts, client_secret=texts)
@example(grant_type="client_credentials", client_id="", client_secret="")
@example(grant_type="client_credentials", client_id=" ~", client_secret="\x7f")
@example(grant_type="client_credentials", client_id="a\n", client_secret="b")
def test_the_schema_says_what_is_refused(
    grant_type: str, client_id: str, client_secret: str
) -> None:
    """A request is valid by the schema exactly if the servicer refuses none of its fields."""
    problem = find_problem(
        TokenRequest(
            grant_type=grant_type,
            client_id=Secret(client_id),
            client_secret=Secret(client_secret),
            authorization=(),
        )
    )
    # Incomplete credentials are no fault of a field: a Basic header may have them.
    is_refused = problem is not None and problem.reason != pb.PROBLEM_REASON_INVALID_CLIENT
    request = {"grant_type": grant_type, "client_id": client_id, "client_secret": client_secret}
    assert VALIDATOR.is_valid(request) is not is_refused


def test_which_field_is_refused() -> None:
    """Each field that is not valid is named in the problem, and no other."""
    good = {"grant_type": "client_credentials", "client_id": "a", "client_secret": "b"}
    for name in good:
        request = {**good, name: "\x7f"}
        problem = find_problem(
            TokenRequest(
                grant_type=request["grant_type"],
                client_id=Secret(request["client_id"]),
                client_secret=Secret(request["client_secret"]),
                authorization=(),
            )
        )
        assert problem is not None
        assert [error.pointer for error in problem.errors] == [f"/{name}"]
        (error,) = VALIDATOR.iter_errors(request)
        assert error.instance_path == [name]
