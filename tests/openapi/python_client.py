"""Gets a token and a problem from the server at the given URL, with the generated client.

A program that tests run beside the package `karmo_client`, which they generate.
"""

import json
import sys

from karmo_client import ApiClient, ApiException, Configuration, TokenServiceApi
from karmo_client.models import ExchangeTokenResponse, ProblemDetails

GRANT, CLIENT_ID = "client_credentials", "demo-partner"
# The generated method has the parameters of the first media type, the form, and yet says that it
# sends JSON, with an empty body, unless it is told.
FORM = "application/x-www-form-urlencoded"


def main(url: str) -> None:
    """Print a token type, a lifetime, a karmoCode and a status as JSON."""
    basic = Configuration(host=url, username=CLIENT_ID, password="demo-secret")
    token = TokenServiceApi(ApiClient(basic)).exchange_token(GRANT, _content_type=FORM)
    assert isinstance(token, ExchangeTokenResponse)
    problem = problem_of(TokenServiceApi(ApiClient(Configuration(host=url))))
    assert isinstance(problem, ProblemDetails)
    result = {
        "tokenType": token.token_type,
        "lifetime": token.expires_in,
        "code": problem.karmo_code,
        "status": problem.status,
    }
    json.dump(result, sys.stdout)


def problem_of(api: TokenServiceApi) -> object:
    """Return the problem of a wrong secret in the body."""
    try:
        api.exchange_token(GRANT, client_id=CLIENT_ID, client_secret="wrong", _content_type=FORM)
    except ApiException as error:
        return error.data
    raise AssertionError("a wrong secret gets a token")


if __name__ == "__main__":
    main(sys.argv[1])
