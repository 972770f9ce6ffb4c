"""Print the OpenAPI document of the services in a descriptor set."""

import json
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from sidecar.transcoding import Options
from sidecar.transcoding.openapi import comments
from sidecar.transcoding.openapi.document import describe

files = FileDescriptorSet.FromString(Path("generated/karmo/descriptors.binpb").read_bytes())
pool = DescriptorPool()
for file in files.file:
    pool.AddSerializedFile(file.SerializeToString())
service = pool.FindServiceByName("karmo.auth.v1.TokenService")
info = {"title": "My API", "version": "1.0.0"}
document = describe({service: Options()}, info, comments=comments.read(files))
print(json.dumps(document, indent=2))
