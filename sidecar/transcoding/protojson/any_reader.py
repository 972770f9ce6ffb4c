"""Reader of google.protobuf.Any, which holds a message of a type that the JSON names.

https://github.com/protocolbuffers/protobuf/blob/main/src/google/protobuf/any.proto
"""

from collections.abc import Callable
from typing import Any, NoReturn

from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from sidecar.transcoding.errors import InvalidValueError, Violation, Violations
from sidecar.transcoding.protojson.containers import Element
from sidecar.transcoding.protojson.location import Arguments, Location
from sidecar.transcoding.protojson.scalars import read_string
from sidecar.transcoding.protojson.well_known import EMPTY, has_own_json
from sidecar.transcoding.strict_json import JsonObject, JsonValue


class AnyReader:
    """Reads an object with an ``@type`` as a packed message of that type.

    `reader_of` returns the reader of a type's messages; `pool` has the types.
    """

    def __init__(self, reader_of: Callable[[Descriptor], Element], pool: DescriptorPool) -> None:
        self._reader_of = reader_of
        self._pool = pool

    def read_valid(self, value: JsonValue, depth: int) -> Arguments:
        """Return the arguments of the Any. Raises InvalidValueError."""
        return self.read(value, Location(depth=depth), _NoViolations())

    def read(self, value: JsonValue, location: Location, violations: Violations) -> Arguments:
        """Return the arguments of the Any; add to `violations`."""
        if not isinstance(value, JsonObject):
            violations.append(location.violation("must be a JSON object"))
            return {}
        if not value:
            return {}
        urls = [member for name, member in value if name == "@type"]
        descriptor = self._find(urls)
        if descriptor is None:
            violations.append(Location(location, "@type", "@type").violation(_A_TYPE))
            return {}
        others = JsonObject(pair for pair in value if pair[0] != "@type")
        count = len(violations)
        message = self._read(descriptor, others, location, violations)
        if len(violations) > count:
            return {}
        type_ = type(message)  # a field of the message may have the name of any of its methods
        if not type_.IsInitialized(message):
            violations.append(location.violation("must have all required fields"))
        return {"type_url": urls[0], "value": type_.SerializePartialToString(message)}

    def _find(self, urls: list[JsonValue]) -> Descriptor | None:
        """Return the type that the only URL names after its last slash, or None."""
        url = urls[0] if len(urls) == 1 else None
        if not isinstance(url, str) or "/" not in url:
            return None
        try:
            return self._pool.FindMessageTypeByName(read_string(url).rpartition("/")[2])
        except (KeyError, InvalidValueError):
            return None

    def _read(
        self, descriptor: Descriptor, value: JsonObject, location: Location, violations: Violations
    ) -> Any:
        make, read = GetMessageClass(descriptor), self._reader_of(descriptor).read
        names = [name for name, _ in value]
        # Empty has no JSON of its own, but Go writes it as if it had one.
        has_value = has_own_json(descriptor) or (
            descriptor.full_name == EMPTY and names == ["value"]
        )
        if not has_value:
            return make(**read(value, location, violations))
        if names != ["value"]:
            violations.append(
                location.violation("must have the members @type and value, and no other")
            )
            return make()
        held = read(value[0][1], Location(location, "value", "value"), violations)
        return make(**held) if isinstance(held, dict) else held


class _NoViolations(Violations):
    """Raises InvalidValueError for the first violation."""

    def append(self, violation: Violation) -> NoReturn:
        raise InvalidValueError(violation.detail)


_A_TYPE = "must be given once, as the URL of a type that this service knows"
