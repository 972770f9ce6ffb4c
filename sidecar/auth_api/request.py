"""The request to the auth-api: its header fields and its form. Without I/O."""

from importlib.metadata import version
from urllib.parse import urlencode

from sidecar.auth_api.client_credentials import GRANT_TYPE, ClientCredentials
from sidecar.call import current_call

_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Content-Type": "application/x-www-form-urlencoded",
    "User-Agent": f"karmo-sidecar/{version('karmo-sidecar')}",
}


def write(credentials: ClientCredentials) -> tuple[dict[str, str], bytes]:
    """Return the header fields and the body of an exchange, with `credentials` as they came."""
    call = current_call()
    headers = _HEADERS | {"X-Request-Id": call.request_id}
    if call.traceparent:
        headers["traceparent"] = call.traceparent
    form = {"grant_type": GRANT_TYPE}
    if credentials.authorization:
        headers["Authorization"] = credentials.authorization.reveal()
    else:
        form["client_id"] = credentials.client_id.reveal()
        form["client_secret"] = credentials.client_secret.reveal()
    return headers, urlencode(form).encode()
