"""JSON merge patches (RFC 7396)."""

from collections.abc import Mapping

from sidecar.transcoding.strict_json import JsonTree


def apply(patch: Mapping[str, JsonTree], target: Mapping[str, JsonTree]) -> dict[str, JsonTree]:
    """Return `target` with the members of `patch`: null removes one, an object patches it."""
    result = dict(target)
    for name, member in patch.items():
        if member is None:
            result.pop(name, None)
        elif isinstance(member, dict):
            inner = result.get(name)
            result[name] = apply(member, inner if isinstance(inner, dict) else {})
        else:
            result[name] = member
    return result
