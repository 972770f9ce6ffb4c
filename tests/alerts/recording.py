"""Pages of metrics that were scraped one after the other, as series for promtool and Prometheus.

Time is stretched: a scene takes seconds, and its scrapes stand `STEP` minutes apart. Values are
what was scraped. Only Unix times are moved, so that the first scrape is at 0, where the time of
promtool begins.
"""

import json
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import httpx2

from tests.alerts.expressions import JOB, UP
from tests.scraped import Scrape, scrape

# Minutes between two scrapes, as the rules see it. Two scrapes lie within their shortest window.
STEP = 2
Key = tuple[str, tuple[tuple[str, str], ...]]
# A value for each scrape; None where the series was absent.
Series = dict[Key, list[float | None]]


@dataclass(slots=True)
class Recording:
    """The pages of one or several sidecars, by the name of the instance."""

    pages: list[Mapping[str, Scrape | None]] = field(default_factory=list)
    start: float = field(default_factory=time.time)

    async def take(self, admins: Mapping[str, object]) -> None:
        """Scrape every sidecar; `admins` are the addresses of the admin listeners."""
        self.pages.append({name: await _page(admin) for name, admin in admins.items()})

    def hold(self, minutes: int) -> None:
        """Let the state of the last scrape last for so many minutes: nothing more happens."""
        self.pages.extend([self.pages[-1]] * (minutes // STEP))

    @property
    def minutes(self) -> int:
        """The minutes between the first and the last scrape."""
        return STEP * (len(self.pages) - 1)

    def series(self, names: Collection[str] | None = None) -> Series:
        """Return the series with these names, or all, and `up` as Prometheus makes it."""
        found: Series = {}
        for number, pages in enumerate(self.pages):
            for instance, page in pages.items():
                for key, value in self._values(instance, page):
                    if names is None or key[0] in names:
                        row = found.setdefault(key, [None] * len(self.pages))
                        row[number] = value
        return found

    def _values(self, instance: str, page: Scrape | None) -> Iterator[tuple[Key, float]]:
        target = {"job": JOB, "instance": instance}
        yield (UP, tuple(sorted(target.items()))), float(page is not None)
        for family in page.families.values() if page else ():
            for sample in family.samples:
                labels = {name: value for name, value in sample.labels.items() if value}
                is_time = sample.name.endswith(("_timestamp_seconds", "_start_time_seconds"))
                value = sample.value - self.start if is_time else sample.value
                yield (sample.name, tuple(sorted((labels | target).items()))), value

    def for_promtool(self, names: Collection[str]) -> list[dict[str, str]]:
        """Return the series with these names as `input_series`."""
        return [
            {"series": selector(key), "values": " ".join(_notation(values))}
            for key, values in self.series(names).items()
        ]

    def as_openmetrics(self, end: float) -> str:
        """Return all series with timestamps, the last of which is `end`."""
        begin = end - 60 * self.minutes
        lines = [
            f"{selector(key)} {value!r} {begin + 60 * STEP * number:.0f}"
            for key, values in sorted(self.series().items())
            for number, value in enumerate(values)
            if value is not None
        ]
        return "\n".join([*lines, "# EOF\n"])


async def _page(admin: object) -> Scrape | None:
    try:
        return await scrape(admin)
    except httpx2.TransportError:
        return None


def selector(key: Key) -> str:
    """Return the notation of a series."""
    name, labels = key
    return name + "{" + ",".join(f"{label}={json.dumps(value)}" for label, value in labels) + "}"


def _notation(values: list[float | None]) -> Iterator[str]:
    """Yield values as promtool reads them. Prometheus marks a series that has ended."""
    before: float | None = None
    for value in values:
        if value is None:
            yield "_" if before is None else "stale"
        else:
            yield f"{value:.9f}"
        before = value
