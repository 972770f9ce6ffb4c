"""The credentials of a client at the token endpoint (RFC 6749 section 2.3.1)."""

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote_plus, unquote_plus

from sidecar import stray_characters
from sidecar.problems import ProblemError
from sidecar.secret import Secret

GRANT_TYPE = "client_credentials"
# RFC 6749 section 2.3.1 and appendix B.
_ESCAPES = (
    "HTTP Basic authentication needs both form-encoded: a percent sign as %25, a plus sign as %2B. "
    "If your client does that already, the secret is wrong."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCredentials:
    """Complete credentials of a client, in the form in which it sent them.

    With HTTP Basic, `authorization` is the header as it came: clients disagree
    on how to encode it, so only the server that knows the client may decode it.
    `encoded` holds its id, its secret and its base64 as they were before they were decoded.
    """

    client_id: Secret[str]
    client_secret: Secret[str]
    authorization: Secret[str] | None
    encoded: tuple[Secret[str], ...]

    def find_doubts(self) -> Iterator[str]:
        """Yield sentences on what may be wrong in how they were sent, if the client is refused."""
        # Decoding changes the credentials in the Basic header.
        if any(sign in part.reveal() for part in self.encoded[:2] for sign in "%+"):
            yield _ESCAPES
        for name, part in (("client_id", self.client_id), ("client_secret", self.client_secret)):
            stray = stray_characters.describe(part.reveal())
            if stray:
                yield f"The {name} that was sent {stray}."

    def to_basic(self) -> str:
        """Return the base64 of a Basic header with the id and the secret, encoded anew."""
        return b64encode(self._pair().encode()).decode()

    def appear_in(self, text: str) -> bool:
        """Whether `text` shows any of them, in any form that they had on their way.

        That way includes a Basic header that the sidecar may have made of them.
        What is shorter than 4 characters is not looked for.
        """
        shown = (_fold(text), _fold(unquote_plus(text)))
        forms = [form for form in self._forms() if len(form) >= 4]
        return any(form in where for form in forms for where in shown)

    def _forms(self) -> Iterator[str]:
        for secret in (self.client_id, self.client_secret, *self.encoded):
            yield _fold(secret.reveal())
            yield quote_plus(secret.reveal())
        yield self._pair()
        yield self.to_basic().rstrip("=")

    def _pair(self) -> str:
        parts = (self.client_id, self.client_secret)
        return ":".join(quote_plus(part.reveal()) for part in parts)


class RejectedError(ProblemError):
    """The auth-api rejected the credentials, whatever else is wrong with its answer."""


def _fold(text: str) -> str:
    """Return `text` with each run of white space as one space, since such runs get lost."""
    return " ".join(text.split())
