"""Names of the limits of the throttle, in metrics, in `/state` and between replicas."""

from enum import StrEnum


class Limit(StrEnum):
    """The limits: three of wrong secrets, and one of exchanges."""

    CLIENT_FAILURES = "client_failures"
    ADDRESS_FAILURES = "address_failures"
    ALL_FAILURES = "all_failures"
    CLIENT_CALLS = "client_calls"
