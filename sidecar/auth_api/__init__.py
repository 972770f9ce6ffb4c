"""The client of the upstream auth-api: requests, responses, errors and retries."""
