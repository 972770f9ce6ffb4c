# Install: pip install authlib requests. Tested with Authlib 1.9 and requests 2.34.
# Run: python get_token.py. Do not call it token.py: Python has a module of that name.
import os
import sys
from typing import Any

from authlib.integrations.requests_client import OAuth2Session
from requests import Response


class TokenRefusedError(Exception):
    def __init__(self, problem: dict[str, Any]) -> None:
        self.error: str = problem["error"]
        self.karmo_code: str = problem["karmoCode"]
        self.detail: str = problem.get("detail", problem["title"])


def check(response: Response) -> Response:
    if not response.ok and "json" in response.headers.get("Content-Type", ""):
        raise TokenRefusedError(response.json())
    return response


session = OAuth2Session(
    os.environ["CLIENT_ID"],
    os.environ["CLIENT_SECRET"],
    token_endpoint="http://127.0.0.1:8080/v1/oauth/token",
    # In the body, because Authlib does not form-encode what it sends by HTTP Basic.
    token_endpoint_auth_method="client_secret_post",
    grant_type="client_credentials",
    default_timeout=30,
)
session.register_compliance_hook("access_token_response", check)


def token() -> dict[str, Any]:
    if not session.token or session.token.is_expired(leeway=60):
        session.fetch_token()
    return session.token


try:
    print(f"{token()['token_type']} token, valid for {token()['expires_in']} s")
except TokenRefusedError as refused:
    sys.exit(f"{refused.error}, karmoCode {refused.karmo_code}: {refused.detail}")
