// Gets a token and a problem from the server at the given URL, with the types that
// openapi-typescript makes and the client openapi-fetch.
import createClient from "openapi-fetch";

import type { components, paths } from "./generated/types";

const grant = { grant_type: "client_credentials", client_id: "demo-partner" } as const;

// @ts-expect-error There is no other grant, and the types say so.
export const otherGrant: components["schemas"]["ExchangeTokenRequest"] = { grant_type: "password" };

async function main(baseUrl: string): Promise<void> {
  const client = createClient<paths>({ baseUrl });
  const good = await client.POST("/v1/oauth/token", {
    body: { ...grant, client_secret: "demo-secret" },
  });
  const bad = await client.POST("/v1/oauth/token", { body: { ...grant, client_secret: "wrong" } });
  const problem: components["schemas"]["ProblemDetails"] | undefined = bad.error;
  if (good.data === undefined || problem === undefined) {
    throw new Error("neither a token nor a problem");
  }
  const lifetime: number = good.data.expires_in;
  const tokenType: "Bearer" = good.data.token_type;
  const code: string = problem.karmoCode;
  console.log(JSON.stringify({ tokenType, lifetime, code, status: problem.status }));
}

void main(process.argv[2]);
