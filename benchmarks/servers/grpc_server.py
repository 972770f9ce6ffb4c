"""The token service by hand, on grpc.aio.

`python -m benchmarks.servers.grpc_server CLIENT URL` asks the auth-api at URL by CLIENT
(see clients.py) and prints where it listens.
"""

import gc
import sys
from typing import Any

import grpc
import uvloop
from karmo.auth.v1 import token_service_pb2_grpc
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest, ExchangeTokenResponse

from benchmarks.servers.clients import Ask, connect


class _Service(token_service_pb2_grpc.TokenServiceServicer):
    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def ExchangeToken(  # noqa: N802 the name of the method in the schema
        self, request: ExchangeTokenRequest, context: Any
    ) -> ExchangeTokenResponse:
        if request.grant_type != "client_credentials":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "unsupported_grant_type")
        token = await self._ask(request.client_id, request.client_secret)
        return ExchangeTokenResponse(
            access_token=token["access_token"],
            token_type=token["token_type"],
            expires_in=token["expires_in"],
        )


async def main(client: str, url: str) -> None:
    """Serve until killed."""
    async with connect(client, url) as ask:
        server = grpc.aio.server()
        token_service_pb2_grpc.add_TokenServiceServicer_to_server(_Service(ask), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        gc.freeze()  # as the sidecar does
        print(f"listening on 127.0.0.1:{port}", flush=True)
        await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
