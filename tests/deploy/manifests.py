"""Kubernetes manifests as lists of objects, and the shape of their parts.

`read` composes the files of a kustomization as far as this project's own need it, so that they
can be checked without kustomize. `render` asks kustomize.
"""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.sidecar_process import ROOT, find_tool

KUBERNETES = ROOT / "deploy/kubernetes"
NAME = "karmo-sidecar"
_TIMEOUT = 60.0  # seconds

# An object of YAML, and a manifest with all of its objects.
Object = dict[str, Any]
Manifest = list[Object]


class ManifestError(Exception):
    """A file is not what kustomize would accept, or uses more of it than `read` knows."""


class _Loader(yaml.SafeLoader):
    """A loader that refuses a key which stands twice: YAML keeps the last one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        if len(keys) != len(set(keys)):
            raise ManifestError(f"a key stands twice {node.start_mark}")
        return super().construct_mapping(node, deep=deep)


def parse(text: str) -> Manifest:
    """Return the objects of a file."""
    return [each for each in yaml.load_all(text, Loader=_Loader) if each]


def read(folder: Path) -> Manifest:
    """Return the objects of the kustomization in `folder`, without labels and hashes in names."""
    (kustomization,) = parse((folder / "kustomization.yaml").read_text("utf-8"))
    known = {"apiVersion", "kind", "resources", "configMapGenerator", "labels"}
    if kustomization.keys() - known:
        raise ManifestError(f"{folder.name}: {sorted(kustomization.keys() - known)}")
    manifest = [
        each
        for resource in kustomization["resources"]
        for each in (
            read(folder / resource)
            if (folder / resource).is_dir()
            else parse((folder / resource).read_text("utf-8"))
        )
    ]
    maps = {each["metadata"]["name"]: each for each in of_kind(manifest, "ConfigMap")}
    for generator in kustomization.get("configMapGenerator", ()):
        (file,) = generator["envs"]
        lines = (folder / file).read_text("utf-8").splitlines()
        data = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
        name = generator["name"]
        if generator.get("behavior") == "merge":
            maps[name]["data"] |= data
        else:
            manifest.append({"kind": "ConfigMap", "metadata": {"name": name}, "data": data})
    return manifest


def render(folder: Path) -> str:
    """Return the YAML that kustomize makes of `folder`; kubectl has kustomize inside."""
    has_only_kubectl = shutil.which("kubectl") and not shutil.which("kustomize")
    tool = find_tool("kubectl" if has_only_kubectl else "kustomize")
    command = "build" if tool.name == "kustomize" else "kustomize"
    made = subprocess.run(
        [tool, command, folder], capture_output=True, text=True, check=False, timeout=_TIMEOUT
    )
    if made.returncode:
        raise ManifestError(made.stderr)
    return made.stdout


def of_kind(manifest: Manifest, kind: str) -> Manifest:
    """Return the objects of one kind."""
    return [each for each in manifest if each["kind"] == kind]


def pods(manifest: Manifest) -> Iterator[Object]:
    """Yield what each Pod, or Pod of a Deployment, is made from: `metadata` and `spec`."""
    yield from of_kind(manifest, "Pod")
    for deployment in of_kind(manifest, "Deployment"):
        yield deployment["spec"]["template"]


def our_pod(manifest: Manifest) -> Object:
    """Return the only Pod with our container."""
    (pod,) = [each for each in pods(manifest) if _our_containers(each)]
    return pod


def our_container(manifest: Manifest) -> Object:
    """Return the container of the sidecar."""
    (container,) = _our_containers(our_pod(manifest))
    return container


def _our_containers(pod: Object) -> Manifest:
    containers = [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]
    return [each for each in containers if each["name"] == NAME]


def environment(manifest: Manifest) -> Mapping[str, str]:
    """Return the environment variables of our container. Raises LookupError for a missing map."""
    maps = {each["metadata"]["name"]: each["data"] for each in of_kind(manifest, "ConfigMap")}
    container = our_container(manifest)
    values: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        values |= maps[source["configMapRef"]["name"]]
    return values | {each["name"]: each["value"] for each in container["env"]}


def ports(manifest: Manifest) -> Mapping[str, int]:
    """Return the ports of our container by name."""
    return {each["name"]: each["containerPort"] for each in our_container(manifest)["ports"]}


def duplicates(names: list[str]) -> list[str]:
    """Return the names that stand more than once."""
    return sorted({name for name in names if names.count(name) > 1})
