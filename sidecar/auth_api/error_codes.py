"""OAuth error codes that the log may show: registered ones say nothing of a caller."""

# RFC 6749 sections 4.1.2.1 and 5.2, RFC 6750 section 3.1, RFC 7009 section 2.2.1,
# RFC 8628 section 3.5, RFC 8707 section 2, RFC 9200 section 5.8.3, RFC 9396 section 5,
# and RFC 9449 sections 5 and 8.
REGISTERED = frozenset(
    {
        "access_denied",
        "authorization_pending",
        "expired_token",
        "incompatible_ace_profiles",
        "insufficient_scope",
        "invalid_authorization_details",
        "invalid_client",
        "invalid_dpop_proof",
        "invalid_grant",
        "invalid_request",
        "invalid_scope",
        "invalid_target",
        "invalid_token",
        "server_error",
        "slow_down",
        "temporarily_unavailable",
        "unauthorized_client",
        "unsupported_grant_type",
        "unsupported_pop_key",
        "unsupported_response_type",
        "unsupported_token_type",
        "use_dpop_nonce",
    }
)
