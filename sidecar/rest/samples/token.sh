#!/bin/sh
# Needs curl 7.76 or later: apt-get install curl. Tested with curl 7.88.
# Run: sh token.sh
set -eu
: "${CLIENT_ID:?}" "${CLIENT_SECRET:?}"

# RFC 6749 section 2.3.1: HTTP Basic needs both form-encoded. This writes every byte as %XX.
form_encode() { printf %s "$1" | od -An -v -tx1 | tr -d ' \n' | sed 's/../%&/g'; }

# curl reads the credentials from standard input: other users can see arguments of a process.
answer=$(
  printf 'user = "%s:%s"\n' "$(form_encode "$CLIENT_ID")" "$(form_encode "$CLIENT_SECRET")" |
    curl --fail-with-body --silent --show-error --max-time 30 --config - \
      --data grant_type=client_credentials http://127.0.0.1:8080/v1/oauth/token
) || { status=$?; printf '%s\n' "$answer" >&2; exit "$status"; }
printf '%s\n' "$answer"
