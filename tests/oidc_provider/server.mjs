// A third-party authorization server as the upstream of our tests: it issues
// RS256 tokens for partners-api to one client. It takes the client from the
// environment, prints "listening <port>" when ready and ends when stdin closes,
// so that it never outlives the tests.
import { generateKeyPairSync } from "node:crypto";
import { createServer } from "node:http";
import Provider from "oidc-provider";

const RESOURCE = "urn:partners-api";

const partner = {
  client_id: process.env.OIDC_CLIENT_ID,
  client_secret: process.env.OIDC_CLIENT_SECRET,
  grant_types: ["client_credentials"],
  redirect_uris: [],
  response_types: [],
  // The provider then accepts the credentials in the body as well.
  token_endpoint_auth_method: "client_secret_basic",
};

const resourceServer = {
  scope: "partners:read",
  audience: "partners-api",
  accessTokenFormat: "jwt",
  accessTokenTTL: 3600,
  jwt: { sign: { alg: "RS256" } },
};

function signingKey() {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  return { ...privateKey.export({ format: "jwk" }), kid: "signing", alg: "RS256", use: "sig" };
}

const configuration = {
  clients: [partner],
  jwks: { keys: [signingKey()] },
  scopes: [resourceServer.scope],
  routes: { token: "/v1/oauth/token", jwks: "/.well-known/jwks.json" },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => RESOURCE,
      useGrantedResource: () => true,
      getResourceServerInfo: () => resourceServer,
    },
  },
};

process.stdin.on("end", () => process.exit()).resume();

const server = createServer();
server.listen(0, "127.0.0.1", () => {
  const { port } = server.address();
  // The issuer holds the port, so the provider comes after the socket.
  const provider = new Provider(`http://127.0.0.1:${port}`, configuration);
  server.on("request", provider.callback());
  console.log(`listening ${port}`);
});
