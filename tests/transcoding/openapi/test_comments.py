"""Comments of a descriptor set by the names of its elements."""

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from sidecar.transcoding.openapi import comments


def file() -> FileDescriptorProto:
    """Return a file with one element of each kind."""
    api = FileDescriptorProto(name="a.proto", package="a.v1")
    outer = api.message_type.add(name="Outer")
    outer.field.add(name="value")
    outer.nested_type.add(name="Inner").field.add(name="value")
    outer.enum_type.add(name="Kind")
    api.enum_type.add(name="Mood")
    api.service.add(name="Service").method.add(name="Get")
    return api


def read(path: list[int], comment: str, *, package: str = "a.v1") -> comments.Comments:
    """Return the comments of the file with one at a path."""
    api = file()
    api.package = package
    api.source_code_info.location.add(path=path, span=[0, 0, 0], leading_comments=comment)
    return comments.read(FileDescriptorSet(file=[api]))


def test_every_element_is_found() -> None:
    """Each kind of element is named in full."""
    paths = {
        "a.v1.Outer": [4, 0],
        "a.v1.Outer.value": [4, 0, 2, 0],
        "a.v1.Outer.Inner": [4, 0, 3, 0],
        "a.v1.Outer.Inner.value": [4, 0, 3, 0, 2, 0],
        "a.v1.Outer.Kind": [4, 0, 4, 0],
        "a.v1.Mood": [5, 0],
        "a.v1.Service": [6, 0],
        "a.v1.Service.Get": [6, 0, 2, 0],
    }
    assert {name: read(path, " It.\n") for name, path in paths.items()} == {
        name: {name: "It."} for name in paths
    }


def test_a_file_without_a_package() -> None:
    """Names of a file without a package have no prefix."""
    assert read([4, 0], " It.\n", package="") == {"Outer": "It."}


def test_what_has_no_comment() -> None:
    """Neither another location nor an empty comment counts."""
    assert read([12], " Syntax.\n") == {}
    assert read([4, 0], "") == {}


def test_the_text_of_a_comment() -> None:
    """Lines of a paragraph are joined; paragraphs and lists stay."""
    text = " One\n two.\n\n\n Three\n  four.\n\n * a\n * b\n"
    assert read([4, 0], text) == {"a.v1.Outer": "One two.\n\nThree  four.\n\n* a\n* b"}
