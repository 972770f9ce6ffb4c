"""The time that a shutdown takes beyond its phases."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ShutdownMargin:
    """Bounds of the steps that follow the lame duck and the drain, in seconds.

    The steps come in this order: the last responses of the API, the end of the admin
    listener, the last lines of the log. The last traces are sent while the admin listener
    ends, in the same time.
    """

    responses: float = 1.0
    admin_listener: float = 2.0
    log: float = 1.0

    @property
    def total(self) -> float:
        """The seconds of all steps together."""
        return self.responses + self.admin_listener + self.log


SHUTDOWN_MARGIN = ShutdownMargin()
