"""The servicer from which the servicers of tests inherit, so that a new RPC breaks none of them."""

from typing import Any, NoReturn

from karmo.auth.v1.token_service_pb2_grpc import TokenServiceServicer


class RaisingServicer(TokenServiceServicer):
    """Raises NotImplementedError for every method of the schema. A new RPC needs a method here."""

    async def ExchangeToken(  # noqa: N802 the name of the RPC
        self, request: Any, context: Any
    ) -> Any:
        """Raise NotImplementedError."""
        return self._raise(request, context)

    def _raise(self, *_: object) -> NoReturn:
        raise NotImplementedError("this servicer has no such method")
