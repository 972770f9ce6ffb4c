"""The interface of the store of shared counts."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol


class StoreError(Exception):
    """The store added nothing, or gave no usable answer.

    `fault` is stable and has no text of the store: see docs/operations.md, "Shared limits".
    """

    def __init__(self, fault: str) -> None:
        super().__init__(fault)
        self.fault = fault


class Total(NamedTuple):
    """A count of all replicas together, and the seconds until its window ends."""

    amount: int
    seconds: float


class Store(Protocol):
    """A store of counts by name."""

    @property
    def server(self) -> str:
        """The host and port of the store, for the log."""

    async def add(self, amounts: Mapping[str, int]) -> Sequence[Total]:
        """Add to the counts of these names, and return their totals in the same order.

        The window of a count begins with its first amount and lasts a minute, as in the throttle.
        Without amounts the store is only tested. Raises StoreError.
        """

    async def aclose(self) -> None:
        """Close the connection to the store."""
