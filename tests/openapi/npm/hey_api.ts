// Gets a token and a problem from the server at the given URL, with the client that
// @hey-api/openapi-ts makes.
import {
  exchangeToken,
  type ExchangeTokenRequest,
  type ExchangeTokenResponse,
  type ProblemDetails,
} from "./generated/client";
import { createClient } from "./generated/client/client";

// @ts-expect-error There is no other grant, and the types say so.
export const otherGrant: ExchangeTokenRequest = { grant_type: "password" };

async function main(baseUrl: string): Promise<void> {
  // By HTTP Basic authentication.
  const client = createClient({ baseUrl, auth: () => "demo-partner:demo-secret" });
  const good = await exchangeToken({ client, body: { grant_type: "client_credentials" } });
  const bad = await exchangeToken({
    client: createClient({ baseUrl }),
    body: { grant_type: "client_credentials", client_id: "demo-partner", client_secret: "wrong" },
  });
  const token: ExchangeTokenResponse | undefined = good.data;
  const problem: ProblemDetails | undefined = bad.error;
  if (token === undefined || problem === undefined) {
    throw new Error("neither a token nor a problem");
  }
  const lifetime: number = token.expires_in;
  const tokenType: "Bearer" = token.token_type;
  const code: string = problem.karmoCode;
  console.log(JSON.stringify({ tokenType, lifetime, code, status: problem.status }));
}

void main(process.argv[2]);
