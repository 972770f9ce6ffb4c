"""Reader of an OpenAPI document: its operations, and what its references refer to."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeAlias

# An object in the document.
Node: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """An operation. `method` is in upper case, and `node` its Operation Object."""

    method: str
    path: str
    node: Node

    @property
    def id(self) -> str:
        """The operationId."""
        return str(self.node["operationId"])

    @property
    def summary(self) -> str:
        """The summary, or the method and path of an operation that has none."""
        return str(self.node.get("summary") or f"{self.method} {self.path}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document of ours. `public_url` is the base URL of the API."""

    tree: Node
    public_url: str

    @property
    def title(self) -> str:
        """The name of the API."""
        return str(self.tree["info"]["title"])

    @property
    def version(self) -> str:
        """The version of the API."""
        return str(self.tree["info"]["version"])

    def component(self, kind: str) -> Node:
        """Return the components of a kind, by their name."""
        components: Node = self.tree["components"].get(kind, {})
        return components

    def resolve(self, node: Node) -> Node:
        """Return the object that `node` refers to, with the other members of `node`."""
        while "$ref" in node:
            names = node["$ref"].removeprefix("#/").split("/")
            target = reduce(lambda tree, name: tree[name], names, self.tree)
            node = {**target, **{key: node[key] for key in node if key != "$ref"}}
        return node

    def operations(self) -> Iterator[Operation]:
        """Yield the operations in the order of the document."""
        for path, item in self.tree["paths"].items():
            for method, node in item.items():
                yield Operation(method=method.upper(), path=path, node=node)


def name_of(node: Node) -> str | None:
    """Return the name of the component that `node` refers to, or None."""
    return node["$ref"].rpartition("/")[2] if "$ref" in node else None


def anchor(*parts: str) -> str:
    """Return the id of a place in a page that `parts` name."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(parts).lower()).strip("-")
