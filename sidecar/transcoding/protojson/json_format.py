"""Choices of the JSON that is written. Readers accept every form of the mapping anyway.

https://protobuf.dev/programming-guides/json/#json-options has these options, but for the last.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonFormat:
    """Choices of the JSON of messages. The defaults are the mapping without options, in full.

    * `enum_numbers`: enum values are their numbers, not their names.
    * `proto_names`: members have the names of the fields in the schema, not their JSON names.
    * `omit_defaults`: fields without presence are left out if they have their default.
    * `int64_numbers`: 64-bit integers are numbers, not strings. Above 2**53 many clients,
      such as all in JavaScript, read another number.
    """

    enum_numbers: bool = False
    proto_names: bool = False
    omit_defaults: bool = False
    int64_numbers: bool = False
