"""Client of the karmo token service: keeps an access token, and refreshes it before it expires."""

from karmo_auth_client._asyncio import AsyncTokenSource
from karmo_auth_client._errors import ExchangeError, Violation
from karmo_auth_client._sync import TokenSource
from karmo_auth_client._token import Token

__all__ = ["AsyncTokenSource", "ExchangeError", "Token", "TokenSource", "Violation"]
