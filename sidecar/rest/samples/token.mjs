// Install: npm install openid-client@6. Tested with openid-client 6.9.0 and Node.js 20.
// Run: node token.mjs
import * as client from 'openid-client'

const url = new URL('http://127.0.0.1:8080/v1/oauth/token')
const config = new client.Configuration(
  { issuer: url.origin, token_endpoint: url.href },
  process.env.CLIENT_ID,
  undefined,
  client.ClientSecretBasic(process.env.CLIENT_SECRET),
)
// Without TLS only for a server on this machine.
if (url.protocol === 'http:') client.allowInsecureRequests(config)

let kept, pending

async function token() {
  if (kept?.expiresIn() > 60) return kept
  // Calls at the same time share one request.
  pending ??= client.clientCredentialsGrant(config).finally(() => { pending = undefined })
  return (kept = await pending)
}

// Returns the problem document of a failure. Its place depends on the class of the error.
async function problemOf(error) {
  if (error instanceof client.ResponseBodyError) return error.cause
  const response = error.response ?? error.cause
  if (!(response instanceof Response)) throw error
  return response.json().catch(() => { throw error })
}

try {
  console.log(`${(await token()).token_type} token, valid for ${(await token()).expires_in} s`)
} catch (error) {
  const { error: code, karmoCode, title, detail = title } = await problemOf(error)
  console.error(`${code}, karmoCode ${karmoCode}: ${detail}`)
  process.exitCode = 1
}
