"""The request to the auth-api: its header fields and its form. Without I/O."""

from enum import StrEnum
from importlib.metadata import version
from urllib.parse import quote_plus

from sidecar.auth_api.client_credentials import GRANT_TYPE, ClientCredentials
from sidecar.call import current_call

_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Content-Type": "application/x-www-form-urlencoded",
    "User-Agent": f"karmo-sidecar/{version('karmo-sidecar')}",
}
_GRANT = f"grant_type={GRANT_TYPE}"


class ClientAuthentication(StrEnum):
    """How credentials are sent to the auth-api (RFC 6749 section 2.3.1).

    `AS_RECEIVED` sends a Basic header byte for byte, and credentials of the body in the body.
    The others encode the credentials anew, whichever way they came.
    """

    AS_RECEIVED = "as-received"
    BASIC = "basic"
    POST = "post"


def write(
    credentials: ClientCredentials, authentication: ClientAuthentication
) -> tuple[dict[str, str], bytes]:
    """Return the header fields and the body of an exchange."""
    call = current_call()
    headers = _HEADERS | {"X-Request-Id": call.request_id}
    if call.traceparent:
        headers["traceparent"] = call.traceparent
    form = _GRANT
    authorization = _authorization(credentials, authentication)
    if authorization:
        headers["Authorization"] = authorization
    else:
        client_id, secret = credentials.client_id.reveal(), credentials.client_secret.reveal()
        form += f"&client_id={quote_plus(client_id)}&client_secret={quote_plus(secret)}"
    return headers, form.encode()


def _authorization(
    credentials: ClientCredentials, authentication: ClientAuthentication
) -> str | None:
    """Return the Authorization field, or None if the credentials go into the body."""
    if authentication is ClientAuthentication.POST:
        return None
    if authentication is ClientAuthentication.AS_RECEIVED:
        return credentials.authorization.reveal() if credentials.authorization else None
    return f"Basic {credentials.to_basic()}"
