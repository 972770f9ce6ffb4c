"""A histogram whose children are kept, so that an observation costs a microsecond."""

from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics

# In seconds. An exchange takes 1 ms of the sidecar itself, an auth-api that hashes secrets 50 to
# 300 ms, and the longest time limit by default is 10 s. With about three buckets for each power
# of ten a quantile is right to a factor of 2.5.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# Combinations of label values in one histogram, at most. All further ones are one, of `OTHER`.
# Known paths, methods and reasons give far fewer.
MAX_CHILDREN = 256
OTHER = "other"

# Else the text format has a gauge `..._created` for each child. Prometheus does not need it.
disable_created_metrics()  # type: ignore[no-untyped-call] # it has no annotations


class Series:
    """A histogram of seconds in `registry`.

    It has the labels `labels`; a value that is None is empty.
    """

    def __init__(
        self, name: str, help_text: str, labels: tuple[str, ...], registry: CollectorRegistry
    ) -> None:
        self._histogram = Histogram(name, help_text, labels, registry=registry, buckets=BUCKETS)
        self._labels = labels
        self._children: dict[tuple[object, ...], Histogram] = {}
        if not labels:
            self._children[()] = self._histogram

    def begin(self, *values: object) -> None:
        """Show 0 observations for these values of the labels, until there are any.

        A series that begins with its first observations shows no increase by them.
        """
        self._child(values)

    def observe(self, seconds: float, *values: object) -> None:
        """Observe `seconds` for these values of the labels."""
        child = self._children.get(values)
        if child is None:
            child = self._child(values)
        child.observe(seconds)

    def _child(self, values: tuple[object, ...]) -> Histogram:
        if len(self._children) >= MAX_CHILDREN:
            return self._histogram.labels(*[OTHER] * len(self._labels))
        texts = ["" if value is None else str(value) for value in values]
        child = self._children[values] = self._histogram.labels(*texts)
        return child
