"""Format of the JSON that is written: the options of the protobuf mapping, and one more.

https://protobuf.dev/programming-guides/json/#json-options does not have `int64_numbers`.
"""

from dataclasses import dataclass
from typing import cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonFormat:
    """Format of the JSON of messages. Readers accept every format, in any mixture.

    The default is the mapping without options, but fields without presence are always written.

    `enum_numbers`: an enum value is its number, not its name. NullValue stays null.
    `proto_names`: a member has the name of its field in the schema, not the JSON name. See
    `name_of`.
    `omit_defaults`: a field without presence is left out if it has its default value.
    `int64_numbers`: a 64-bit integer is a number, not a string. Many clients, such as all in
    JavaScript, round numbers above 2**53.
    """

    enum_numbers: bool = False
    proto_names: bool = False
    omit_defaults: bool = False
    int64_numbers: bool = False

    def name_of(self, field: FieldDescriptor) -> str:
        """Return the name of the member for `field`.

        With `proto_names` it is the name in the schema, unless that is the JSON name of another
        field: readers would take the member for that field.
        """
        if not self.proto_names or field.name == field.json_name:
            return field.json_name
        message = cast("Descriptor", field.containing_type)  # a field is in a message
        taken = {other.json_name for other in message.fields}
        return field.json_name if field.name in taken else field.name

    def parameter_name_of(self, field: FieldDescriptor) -> str:
        """Return the name of `field` in the name of a parameter, where a dot divides names."""
        name = self.name_of(field)
        return field.name if "." in name else name


DEFAULT = JsonFormat()
