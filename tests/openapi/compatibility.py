"""Comparison of two OpenAPI documents: the changes that break clients of the older one.

A request that the older document allows must stay allowed. A response must stay one that the
older document describes, except that members, media types and statuses may be added. Keywords
that the schemas of this API do not use are compared as a whole: any change is a break.
"""

from collections.abc import Iterator, Mapping
from typing import Any

# Any: a tree of JSON.
Tree = Any
_METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
_LOWER, _UPPER = ("minimum", "minLength", "minItems"), ("maximum", "maxLength", "maxItems")
_WHOLE = ("allOf", "anyOf", "oneOf", "not", "propertyNames", "contentEncoding", "prefixItems")


def breaks(old: Tree, new: Tree) -> list[str]:
    """Return the places and kinds of all changes from `old` to `new` that break clients."""
    return list(_Comparison(old, new).document())


class _Comparison:
    def __init__(self, old: Tree, new: Tree) -> None:
        self._old, self._new = old, new
        # References that were compared, or are being compared: a type may contain itself.
        self._compared: set[tuple[str | None, str | None, bool]] = set()

    def document(self) -> Iterator[str]:
        """Yield every break."""
        old_schemes, new_schemes = _schemes(self._old), _schemes(self._new)
        for name, scheme in old_schemes.items():
            if new_schemes.get(name) != scheme:
                yield f"security scheme {name}: changed"
        for path, item in self._old["paths"].items():
            new_item = self._new["paths"].get(path)
            if new_item is None:
                yield f"{path}: removed"
                continue
            for method in _METHODS & item.keys():
                place = f"{method.upper()} {path}"
                if method not in new_item:
                    yield f"{place}: removed"
                else:
                    yield from self._operation(item[method], new_item[method], place)

    def _operation(self, old: Tree, new: Tree, place: str) -> Iterator[str]:
        yield from (
            f"{place} {name}: changed" for name in ("operationId",) if old[name] != new[name]
        )
        yield from (
            f"{place} security: a way was removed"
            for way in old.get("security", [])
            if way not in new.get("security", [])
        )
        yield from self._parameters(_by_name(old), _by_name(new), f"{place} parameter")
        bodies = old.get("requestBody", {}), new.get("requestBody", {})
        if bodies[1].get("required") and not bodies[0].get("required"):
            yield f"{place} request: required"
        yield from self._content(*bodies, f"{place} request", is_request=True)
        for status, response in old["responses"].items():
            if status not in new["responses"]:
                yield f"{place} {status}: removed"
            else:
                yield from self._response(response, new["responses"][status], f"{place} {status}")

    def _parameters(self, old: Tree, new: Tree, place: str) -> Iterator[str]:
        yield from (f"{place} {name}: removed" for name in old.keys() - new.keys())
        for name, parameter in new.items():
            if parameter.get("required") and not old.get(name, {}).get("required"):
                yield f"{place} {name}: required"
        for name in old.keys() & new.keys():
            schemas = old[name]["schema"], new[name]["schema"]
            yield from self._schema(*schemas, f"{place} {name}", is_request=True)

    def _response(self, old: Tree, new: Tree, place: str) -> Iterator[str]:
        old, new = _resolve(old, self._old), _resolve(new, self._new)
        for name, header in old.get("headers", {}).items():
            new_header = _resolve(new.get("headers", {}).get(name, {}), self._new)
            is_required = _resolve(header, self._old).get("required")
            if not new_header or (is_required and not new_header.get("required")):
                yield f"{place} header {name}: removed"
        yield from self._content(old, new, place, is_request=False)

    def _content(self, old: Tree, new: Tree, place: str, *, is_request: bool) -> Iterator[str]:
        contents = new.get("content", {})
        for media_type, content in old.get("content", {}).items():
            if media_type not in contents:
                yield f"{place} {media_type}: removed"
                continue
            schemas = content.get("schema", {}), contents[media_type].get("schema", {})
            yield from self._schema(*schemas, f"{place} {media_type}", is_request=is_request)

    def _schema(self, old: Tree, new: Tree, place: str, *, is_request: bool) -> Iterator[str]:
        references = (old.get("$ref"), new.get("$ref"), is_request)
        if references in self._compared:
            return
        if all(references[:2]):
            self._compared.add(references)
        old, new = _resolve(old, self._old), _resolve(new, self._new)
        wide, narrow = (old, new) if is_request else (new, old)
        yield from (f"{place}: {kind}" for kind in _narrowings(wide, narrow))
        yield from (f"{place}: {name} changed" for name in _WHOLE if old.get(name) != new.get(name))
        olds, news = old.get("properties", {}), new.get("properties", {})
        for name in olds:
            if name not in news:
                yield f"{place}.{name}: removed"
            else:
                yield from self._schema(
                    olds[name], news[name], f"{place}.{name}", is_request=is_request
                )
        for name in ("items", "additionalProperties"):
            one, other = old.get(name), new.get(name)
            if isinstance(one, dict) or isinstance(other, dict):
                pair = [each if isinstance(each, dict) else {} for each in (one, other)]
                yield from self._schema(pair[0], pair[1], f"{place}[]", is_request=is_request)


def _schemes(document: Tree) -> Mapping[str, Tree]:
    schemes = document.get("components", {}).get("securitySchemes", {})
    return {
        name: {key: value for key, value in scheme.items() if key != "description"}
        for name, scheme in schemes.items()
    }


def _by_name(operation: Tree) -> Mapping[str, Tree]:
    return {f"{each['in']} {each['name']}": each for each in operation.get("parameters", [])}


def _resolve(tree: Tree, document: Tree) -> Tree:
    if "$ref" not in tree:
        return tree
    target = document
    for name in tree["$ref"].removeprefix("#/").split("/"):
        target = target[name]
    return _resolve(target, document)


def _narrowings(wide: Tree, narrow: Tree) -> Iterator[str]:
    """Yield the keywords by which `narrow` refuses values that `wide` allows."""
    if not _types(wide) <= _types(narrow):
        yield "type"
    wide_values, values = _values(wide), _values(narrow)
    if values is not None and (wide_values is None or not wide_values <= values):
        yield "enum"
    for name in ("pattern", "format"):
        if name in narrow and wide.get(name) != narrow[name]:
            yield name
    yield from (
        f"required {name}"
        for name in narrow.get("required", [])
        if name not in wide.get("required", [])
    )
    for name in _LOWER:
        if narrow.get(name, float("-inf")) > wide.get(name, float("-inf")):
            yield name
    for name in _UPPER:
        if narrow.get(name, float("inf")) < wide.get(name, float("inf")):
            yield name
    if (
        narrow.get("additionalProperties") is False
        and wide.get("additionalProperties") is not False
    ):
        yield "additionalProperties"


def _types(schema: Tree) -> set[str]:
    types = schema.get("type", ["null", "boolean", "object", "array", "number", "string"])
    named = {types} if isinstance(types, str) else set(types)
    return named | {"integer"} if "number" in named else named


def _values(schema: Tree) -> set[str] | None:
    """Return the only allowed values as texts, or None if any value is allowed."""
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    return None if values is None else {repr(value) for value in values}
