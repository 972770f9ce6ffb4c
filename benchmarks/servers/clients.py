"""The clients of the auth-api by name, each in a module that is imported only if it is used.

So a server's memory holds no client that it does not use.
"""

import importlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

Token: TypeAlias = Mapping[str, Any]
Ask: TypeAlias = Callable[[str, str], Awaitable[Token]]  # client_id, client_secret
FORM = {"grant_type": "client_credentials"}


def connect(client: str, url: str) -> AbstractAsyncContextManager[Ask]:
    """Return a context with a function that asks the auth-api at `url` by `client`.

    `client` is constant (which asks nobody), httpx2 or aiohttp.
    """
    module = importlib.import_module(f"benchmarks.servers.{client}_client")
    context: AbstractAsyncContextManager[Ask] = module.connect(url)
    return context
