// Calls a server by grpc-js, with the schema that its reflection gives.
// node exchange.mjs <address> <client id> <client secret>
import { credentials, status } from "@grpc/grpc-js";
import reflection from "grpc-js-reflection-client";

const [address, client_id, client_secret] = process.argv.slice(2);
const plaintext = credentials.createInsecure();
const schema = new reflection.GrpcReflection(address, plaintext, {}, "v1");

async function client(service) {
  const descriptor = await schema.getDescriptorBySymbol(service);
  const root = descriptor.getPackageObject({ keepCase: true, enums: String });
  const Client = service.split(".").reduce((scope, name) => scope[name], root);
  return new Client(address, plaintext);
}

const call = (stub, method, request) =>
  new Promise((resolve, reject) => {
    stub[method](request, (error, response) => (error ? reject(error) : resolve(response)));
  });

console.log(`services: ${(await schema.listServices()).sort().join(" ")}`);
const health = await client("grpc.health.v1.Health");
console.log(`health: ${(await call(health, "Check", { service: "" })).status}`);
const tokens = await client("karmo.auth.v1.TokenService");
try {
  const request = { grant_type: "client_credentials", client_id, client_secret };
  const token = await call(tokens, "ExchangeToken", request);
  console.log(`token: ${token.token_type} ${token.expires_in}`);
} catch (error) {
  console.log(`${status[error.code]}: ${error.details}`);
}
process.exit();
