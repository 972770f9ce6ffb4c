"""Exchange client credentials for a token by gRPC, and decode the details of a failed call."""

import asyncio
from typing import cast

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status
from karmo.auth.v1.token_service_pb2 import ExchangeTokenRequest
from karmo.auth.v1.token_service_pb2_grpc import TokenServiceStub
from karmo.problem.v1.problem_details_pb2 import ProblemDetails


async def main() -> None:
    """Exchange once with the right secret and once with a wrong one."""
    async with grpc.aio.insecure_channel("127.0.0.1:50051") as channel:
        stub = TokenServiceStub(channel)
        for secret in ("demo-secret", "wrong"):
            request = ExchangeTokenRequest(
                grant_type="client_credentials", client_id="demo-partner", client_secret=secret
            )
            try:
                response = await stub.ExchangeToken(request, timeout=2)
                print("a token for", response.expires_in, "seconds")
            except grpc.aio.AioRpcError as error:
                explain(error)


def explain(error: grpc.aio.AioRpcError) -> None:
    """Print the status code of a failed call, and its details."""
    print(error.code().name)
    status = rpc_status.from_call(cast("grpc.Call", error))  # has the methods that are needed
    for detail in status.details if status else ():
        info, problem = ErrorInfo(), ProblemDetails()
        if detail.Unpack(info):
            print("reason:", info.reason)
        if detail.Unpack(problem):
            print("karmoCode:", problem.karmo_code)
            print("detail:", problem.detail)


asyncio.run(main())
