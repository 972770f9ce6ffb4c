"""The credentials of a client at the token endpoint (RFC 6749 section 2.3.1)."""

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote_plus, unquote_plus

from sidecar.problems import ProblemError
from sidecar.secret import Secret

GRANT_TYPE = "client_credentials"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCredentials:
    """Complete credentials of a client, in the form in which it sent them.

    With HTTP Basic, `authorization` is the header as it came: clients disagree
    on how to encode it, so only the server that knows the client may decode it.
    `encoded` holds its parts as they were before they were decoded.
    """

    client_id: Secret[str]
    client_secret: Secret[str]
    authorization: Secret[str] | None
    encoded: tuple[Secret[str], ...]

    def appear_in(self, text: str) -> bool:
        """Whether `text` shows any of them, in any form that they had on their way.

        What is shorter than 4 characters is not looked for.
        """
        shown = (_fold(text), _fold(unquote_plus(text)))
        forms = [form for form in self._forms() if len(form) >= 4]
        return any(form in where for form in forms for where in shown)

    def _forms(self) -> Iterator[str]:
        for secret in (self.client_id, self.client_secret, *self.encoded):
            yield _fold(secret.reveal())
            yield quote_plus(secret.reveal())


class RejectedError(ProblemError):
    """The auth-api rejected the credentials, whatever else is wrong with its answer."""


def _fold(text: str) -> str:
    """Return `text` with each run of white space as one space, since such runs get lost."""
    return " ".join(text.split())
