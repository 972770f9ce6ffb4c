"""Pages of metrics that were scraped one after the other, as series for promtool and Prometheus.

Time is stretched: a scene takes seconds, and its scrapes stand `STEP` minutes apart. Values are
what was scraped. Only Unix times are moved along: the end of a certificate by as much as the first
scrape, the start of a process to a minute before the scrape that followed it.
"""

import bisect
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
    """The pages of one or several sidecars, by the name of the instance, and their Unix times."""

    pages: list[Mapping[str, Scrape | None]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    async def take(self, admins: Mapping[str, object]) -> None:
        """Scrape every sidecar; `admins` are the addresses of the admin listeners."""
        self.pages.append({name: await _page(admin) for name, admin in admins.items()})
        self.times.append(time.time())

    def hold(self, minutes: int) -> None:
        """Let the state of the last scrape last for so many minutes: nothing more happens."""
        self.pages.extend([self.pages[-1]] * (minutes // STEP))

    @property
    def minutes(self) -> int:
        """The minutes between the first and the last scrape."""
        return STEP * (len(self.pages) - 1)

    def series(self, names: Collection[str] | None = None, begin: float = 0.0) -> Series:
        """Return the series with these names, or all, and `up` as Prometheus makes it.

        `begin` is the Unix time to which the first scrape is moved.
        """
        found: Series = {}
        for number, pages in enumerate(self.pages):
            for instance, page in pages.items():
                for key, value in _values(instance, page):
                    if names is None or key[0] in names:
                        row = found.setdefault(key, [None] * len(self.pages))
                        row[number] = self._moved(key[0], value, begin)
        return found

    def _moved(self, name: str, value: float, begin: float) -> float:
        """Return a value; of a Unix time, the one to which it is moved."""
        if name.endswith("_timestamp_seconds"):
            return value - self.times[0] + begin
        if name.endswith("_start_time_seconds"):
            # The scrape before which the process started.
            number = bisect.bisect(self.times, value)
            return begin + 60 * STEP * (number - 0.5)
        return value

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
            for key, values in sorted(self.series(begin=begin).items())
            for number, value in enumerate(values)
            if value is not None
        ]
        return "\n".join([*lines, "# EOF\n"])


def _values(instance: str, page: Scrape | None) -> Iterator[tuple[Key, float]]:
    """Yield the series of a page, and `up`, with the labels of the target."""
    target = {"job": JOB, "instance": instance}
    yield (UP, tuple(sorted(target.items()))), float(page is not None)
    for family in page.families.values() if page else ():
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if value}
            yield (sample.name, tuple(sorted((labels | target).items()))), sample.value


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
