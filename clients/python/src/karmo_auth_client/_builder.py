"""Builder of the names in a generated module, without the default pool of the process.

Where protobuf has no C extension, as on Alpine, the builder of google.protobuf registers each
message in the default pool. `make generate` makes the generated code import this module instead.
"""

from collections.abc import MutableMapping
from typing import Any

from google.protobuf.descriptor import Descriptor, FileDescriptor
from google.protobuf.internal.builder import BuildMessageAndEnumDescriptors
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

__all__ = ["BuildMessageAndEnumDescriptors", "BuildTopDescriptorsAndMessages"]


def BuildTopDescriptorsAndMessages(  # noqa: N802 as generated code calls it
    file: FileDescriptor, module: str, names: MutableMapping[str, Any]
) -> None:
    """Add the enums, extensions, services and messages of `file` to `names` of `module`."""
    for name, enum in file.enum_types_by_name.items():
        names[f"_{name.upper()}"] = enum
        names[name] = EnumTypeWrapper(enum)
        names.update({value.name: value.number for value in enum.values})
    for name, extension in file.extensions_by_name.items():
        names[f"{name.upper()}_FIELD_NUMBER"] = extension.number
        names[name] = extension
    for name, service in file.services_by_name.items():
        names[f"_{name.upper()}"] = service
    for name, message in file.message_types_by_name.items():
        names[name] = _build(message, module)


def _build(message: Descriptor, module: str) -> type[Message]:
    """Return the class of a message, with those of its nested messages."""
    kind = GetMessageClass(message)
    kind.__module__ = module
    for name, nested in message.nested_types_by_name.items():
        setattr(kind, name, _build(nested, module))
    return kind
