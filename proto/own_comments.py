"""Keep the comments of our own files in a descriptor set, and no other source information.

`make generate` runs it with the path of the set. Tools such as grpcurl print the comments.
"""

import sys
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet


def main(path: Path) -> None:
    """Rewrite the descriptor set at `path`."""
    files = FileDescriptorSet.FromString(path.read_bytes())
    for file in files.file:
        keep_comments(file)
    path.write_bytes(files.SerializeToString(deterministic=True))


def keep_comments(file: FileDescriptorProto) -> None:
    """Remove every location without a comment; of other packages also those with one."""
    locations = file.source_code_info.location
    kept = [
        location
        for location in locations
        if file.package.startswith("karmo.") and location.leading_comments
    ]
    del file.source_code_info.location[:]
    file.source_code_info.location.extend(kept)
    if not kept:
        file.ClearField("source_code_info")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
