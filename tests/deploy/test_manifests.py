"""Tests of deploy/kubernetes: the files, and what kustomize makes of them."""

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import trustme

from sidecar.settings.model import Settings, name_of
from sidecar.settings.sources import load
from tests.deploy.checks import violations_of
from tests.deploy.manifests import (
    KUBERNETES,
    Manifest,
    ManifestError,
    environment,
    of_kind,
    our_container,
    our_pod,
    parse,
    read,
    render,
)
from tests.sidecar_process import ROOT, SIDECAR, run
from tests.third_party import install

SHAPES = ("native-sidecar", "stand-alone")
# The oldest that has native sidecars, and the newest that the validator knows.
VERSIONS = ("1.29", "1.37")
LOCK = Path(__file__).with_name("kubernetes_validate.txt")
VALIDATOR = ROOT / "dist/kubernetes_validate"


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_keeps_the_rules(shape: str) -> None:
    """The files of a shape fit the settings, and each other."""
    assert violations_of(read(KUBERNETES / shape)) == []


def test_every_file_is_a_part_of_a_shape() -> None:
    """No file is left out of its kustomization."""
    for folder in {path.parent for path in KUBERNETES.rglob("*.yaml")}:
        (kustomization,) = parse((folder / "kustomization.yaml").read_text("utf-8"))
        named = {*kustomization.get("resources", ()), *(p["path"] for p in patches(kustomization))}
        there = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
        assert there == {name for name in named if name.endswith(".yaml")}, folder


def patches(kustomization: Mapping[str, list[dict[str, str]]]) -> list[dict[str, str]]:
    """Return the patches of a kustomization."""
    return kustomization.get("patches", [])


def test_the_native_sidecar_is_one() -> None:
    """It is an init container that goes on, REST and gRPC stay on loopback, and it has no delay."""
    manifest = read(KUBERNETES / "native-sidecar")
    (container,) = our_pod(manifest)["spec"]["initContainers"]
    assert container == our_container(manifest)
    assert container["restartPolicy"] == "Always"
    settings = environment(manifest)
    assert not {name_of("rest_listen"), name_of("grpc_listen")} & settings.keys()
    assert settings[name_of("lame_duck")] == "0s"


def test_the_unix_sockets_of_the_native_sidecar() -> None:
    """Its component puts both sockets into a volume of both containers, and fits the settings."""
    (patch,) = parse((KUBERNETES / "native-sidecar/unix-sockets/pod.yaml").read_text("utf-8"))
    (pod,) = of_kind(read(KUBERNETES / "native-sidecar"), "Pod")
    assert patch["metadata"]["name"] == pod["metadata"]["name"]
    (ours,), (application,) = patch["spec"]["initContainers"], patch["spec"]["containers"]
    (volume,) = patch["spec"]["volumes"]
    assert volume.keys() == {"name", "emptyDir"}
    (mounted,) = ours["volumeMounts"]
    assert application["volumeMounts"] == [mounted | {"readOnly": True}]
    assert mounted["name"] == volume["name"]
    for container, name in ((ours, "initContainers"), (application, "containers")):
        assert container["name"] in [each["name"] for each in pod["spec"][name]]
    variables = {each["name"]: each["value"] for each in ours["env"]}
    settings = load(variables | {"SIDECAR_PUBLIC_URL": "https://api.example.test"}, {})
    clients = {each["name"]: each["value"] for each in application["env"]}
    assert clients["TOKEN_SERVICE"] == str(settings.grpc_listen)
    assert clients["TOKEN_SOCKET"] == settings.rest_listen.host
    for address in (settings.rest_listen, settings.grpc_listen):
        assert str(Path(address.host).parent) == mounted["mountPath"]


# Each changes one line of the stand-alone manifest; the check must find it.
Breaking = Callable[[Manifest], object]


def setting(name: str, value: str) -> Breaking:
    """Return a change of one variable, which is added if it is not there."""

    def change(manifest: Manifest) -> None:
        env = our_container(manifest)["env"]
        env[:] = [each for each in env if each["name"] != name] + [{"name": name, "value": value}]

    return change


def of_container(*path: str, to: object) -> Breaking:
    """Return a change of one member of our container."""

    def change(manifest: Manifest) -> None:
        place = our_container(manifest)
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = to

    return change


def of_spec(kind: str, *path: str | int, to: object) -> Breaking:
    """Return a change of one member of the first object of a kind."""

    def change(manifest: Manifest) -> None:
        place = of_kind(manifest, kind)[0]["spec"]
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = to

    return change


WRONG: Mapping[str, tuple[Breaking, str]] = {
    "a mistyped setting": (
        setting("SIDECAR_REST_LISTNE", "[::]:8080"),
        "SIDECAR_REST_LISTNE: is not a setting; did you mean SIDECAR_REST_LISTEN?",
    ),
    "a time without a unit": (
        setting("SIDECAR_LAME_DUCK", "5"),
        (
            "SIDECAR_LAME_DUCK: must be a number with the unit ms, s, m or h, such as 500ms, 5s or "
            "2m, not below 0 and at most 1h"
        ),
    ),
    "phases that do not fit": (
        setting("SIDECAR_DRAIN_TIMEOUT", "25s"),
        (
            "SIDECAR_TERMINATION_GRACE: must be at least 34s: "
            "SIDECAR_LAME_DUCK + SIDECAR_DRAIN_TIMEOUT + 4s"
        ),
    ),
    "a setting that stands twice": (
        lambda manifest: our_container(manifest)["env"].append(our_container(manifest)["env"][0]),
        "SIDECAR_REST_LISTEN: stands twice in env",
    ),
    "another port": (
        setting("SIDECAR_GRPC_LISTEN", "[::]:50052"),
        "port grpc: 50051 is not that of [::]:50052",
    ),
    "loopback": (
        setting("SIDECAR_ADMIN_LISTEN", "127.0.0.1:9090"),
        "port admin: 127.0.0.1:9090 is not reachable",
    ),
    "problems that nobody can open": (
        lambda manifest: of_kind(manifest, "ConfigMap")[0]["data"].pop("SIDECAR_PUBLIC_URL"),
        (
            "SIDECAR_PUBLIC_URL: should be set to the URL that partners use: REST listens on all "
            "addresses, and the type URLs of problems begin with http://127.0.0.1:8080, which "
            "opens on this machine only"
        ),
    ),
    "a probe of another port": (
        of_container("livenessProbe", "httpGet", "port", to="rest"),
        "livenessProbe: asks {'path': '/livez', 'port': 'rest'}",
    ),
    "a probe that hangs": (
        of_container("readinessProbe", "timeoutSeconds", to=2),
        "readinessProbe: takes longer than its period",
    ),
    "a probe that is too slow": (
        of_container("readinessProbe", "periodSeconds", to=2),
        "readinessProbe: notices the lame duck after 6 s",
    ),
    "too little grace": (
        lambda manifest: our_pod(manifest)["spec"].update(terminationGracePeriodSeconds=29),
        "terminationGracePeriodSeconds: 29 s are less than the setting",
    ),
    "a hook": (
        of_container("lifecycle", to={"preStop": {"sleep": {"seconds": 5}}}),
        "lifecycle: the lame duck needs no hook",
    ),
    "a Service of another port": (
        of_spec("Service", "ports", 0, "targetPort", to="http"),
        "Service karmo-sidecar: has no port http at 8080",
    ),
    "a Service of no Pod": (
        of_spec("Service", "selector", to={"app": "karmo"}),
        "Service karmo-sidecar: selects no Pod",
    ),
    "a budget of no Pod": (
        of_spec("PodDisruptionBudget", "selector", "matchLabels", to={"app": "karmo"}),
        "PodDisruptionBudget: selects no Pod",
    ),
    "scaling of nothing": (
        of_spec("HorizontalPodAutoscaler", "scaleTargetRef", "name", to="sidecar"),
        "HorizontalPodAutoscaler: scales nothing",
    ),
    "no request of CPU": (
        of_container("resources", "requests", to={"memory": "128Mi"}),
        "HorizontalPodAutoscaler: there is no request of CPU to compare with",
    ),
    "an open admin port": (
        of_spec("NetworkPolicy", "ingress", 2, "from", to=[{"namespaceSelector": {}}]),
        "NetworkPolicy: opens the admin port to more than Prometheus",
    ),
    "an admin port that is open to all": (
        of_spec("NetworkPolicy", "ingress", 2, "from", to=[]),
        "NetworkPolicy: opens the admin port to more than Prometheus",
    ),
    "a forgotten port": (
        of_spec("NetworkPolicy", "ingress", 0, "ports", to=[]),
        "NetworkPolicy: is about ['admin', 'grpc']",
    ),
    "a writable root": (
        of_container("securityContext", "readOnlyRootFilesystem", to=False),
        "karmo-sidecar: is not restricted",
    ),
    "another version": (
        of_container("image", to="karmo-sidecar:latest"),
        "karmo-sidecar: is not of this version",
    ),
    "a certificate from nowhere": (
        setting("SIDECAR_AUTH_API_TLS_CA", "/etc/ca.pem"),
        "auth_api_tls_ca: /etc/ca.pem is in no Secret",
    ),
    "a name that stands twice": (
        lambda manifest: manifest.append(of_kind(manifest, "Service")[0]),
        "Service karmo-sidecar: stands twice",
    ),
}


@pytest.mark.parametrize(("breaking", "violation"), WRONG.values(), ids=WRONG)
def test_a_violation_is_found(breaking: Breaking, violation: str) -> None:
    """Each rule finds the change that breaks it."""
    manifest = read(KUBERNETES / "stand-alone")
    breaking(manifest)
    assert violations_of(manifest) == [violation]


def test_a_key_that_stands_twice_is_refused() -> None:
    """YAML would keep the last value silently."""
    with pytest.raises(ManifestError, match="stands twice"):
        parse("a: {b: 1, c: 2, b: 3}")


# What kustomize makes


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the manifests, with a certificate where the example expects one."""
    folder = tmp_path_factory.mktemp("manifests") / "kubernetes"
    shutil.copytree(KUBERNETES, folder)
    pair = trustme.CA().issue_cert("api.example.com")
    (folder / "example/tls.crt").write_bytes(pair.cert_chain_pems[0].bytes())
    (folder / "example/tls.key").write_bytes(pair.private_key_pem.bytes())
    return folder


@pytest.mark.tools
@pytest.mark.parametrize("shape", [*SHAPES, "example"])
def test_what_is_rendered_keeps_the_rules(shape: str, folder: Path) -> None:
    """The rules hold for what kustomize makes, and each object has the labels to find it by."""
    manifest = parse(render(folder / shape))
    assert violations_of(manifest) == []
    own = [each for each in manifest if each["kind"] not in ("Secret", "ServiceMonitor")]
    parts = [each["metadata"].get("labels", {}).get("app.kubernetes.io/part-of") for each in own]
    assert "karmo-sidecar" in parts


@pytest.mark.tools
@pytest.mark.parametrize("shape", [*SHAPES, "example"])
def test_what_is_rendered_is_valid(shape: str, folder: Path, tmp_path: Path) -> None:
    """The schemas of Kubernetes accept every object, and only the ServiceMonitor has none."""
    file = tmp_path / "rendered.yaml"
    file.write_text(render(folder / shape), "utf-8")
    for release in VERSIONS:
        status, lines = validate(file, release)
        assert status == 0, lines
        passed = [line for line in lines if " passed for resource " in line]
        unknown = [line for line in lines if line.startswith("WARN")]
        assert len(passed) + len(unknown) == len(parse(file.read_text("utf-8")))
        assert ["ServiceMonitor" in line for line in unknown] == [True] * (shape == "example")


@pytest.mark.tools
def test_a_mistyped_member_is_invalid(folder: Path, tmp_path: Path) -> None:
    """The validator is strict: it finds a member that no schema has."""
    file = tmp_path / "rendered.yaml"
    text = render(folder / "stand-alone")
    file.write_text(text.replace("livenessProbe:", "livenessProb:"), "utf-8")
    status, lines = validate(file, VERSIONS[-1])
    assert status != 0
    assert "livenessProb" in "".join(lines)


def validate(file: Path, release: str) -> tuple[int, list[str]]:
    """Return the status and the lines of kubernetes-validate, which has its schemas with it."""
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes")
    install(LOCK, VALIDATOR, sys.executable, *pip, "-r", LOCK, "--target", VALIDATOR)
    ended = subprocess.run(
        [sys.executable, "-m", "kubernetes_validate", "--strict", "-k", release, file],
        env={**os.environ, "PYTHONPATH": str(VALIDATOR)},
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.returncode, (ended.stdout + ended.stderr).splitlines()


@pytest.mark.tools
async def test_the_example_starts_with_its_certificate(folder: Path, tmp_path: Path) -> None:
    """`check-config` accepts the rendered settings and the files of the rendered Secret."""
    manifest = parse(render(folder / "example"))
    (secret,) = of_kind(manifest, "Secret")
    for name, content in secret["data"].items():
        (tmp_path / name).write_bytes(base64.b64decode(content))
    (mount,) = our_container(manifest)["volumeMounts"]
    env = {
        name: value.replace(mount["mountPath"], str(tmp_path))
        for name, value in environment(manifest).items()
    }
    tls = [name_of(name) for name in Settings.model_fields if "_tls_" in name]
    assert len(env.keys() & tls) == 4
    end = await run(*SIDECAR, "check-config", env=env)
    assert (end.status, end.stderr) == (0, "")
    (tmp_path / "tls.key").write_text("canary")
    assert (await run(*SIDECAR, "check-config", env=env)).status == 78


SHARED = KUBERNETES / "stand-alone/shared-limits"
STORE = {"url": "rediss://:canary@redis.example.com", "client-key": "k" * 32}


def test_the_component_of_shared_limits_mounts_what_it_names() -> None:
    """Each file of a setting is a key of the Secret that docs/deployment.md makes, where it is."""
    (patch,) = parse((SHARED / "deployment.yaml").read_text("utf-8"))
    container, (volume,) = our_container([patch]), our_pod([patch])["spec"]["volumes"]
    (mount,) = container["volumeMounts"]
    assert (mount["name"], mount["readOnly"]) == (volume["name"], True)
    files = {each["name"]: each["value"] for each in container["env"]}
    names = ("shared_limits_url", "log_client_key")
    assert files == {
        f"{name_of(name)}_FILE": f"{mount['mountPath']}/{key}"
        for name, key in zip(names, STORE, strict=True)
    }
    page = (ROOT / "docs/deployment.md").read_text("utf-8")
    assert f"create secret generic {volume['secret']['secretName']} " in page
    assert [key for key in STORE if f"--from-literal={key}=" not in page] == []


@pytest.mark.tools
async def test_the_component_of_shared_limits_fits_the_shape(folder: Path, tmp_path: Path) -> None:
    """With it the shape is rendered, and `check-config` accepts its settings with a store."""
    own = folder / "shared"
    own.mkdir()
    (own / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
        "resources: [../stand-alone]\ncomponents: [../stand-alone/shared-limits]\n"
    )
    manifest = parse(render(own))
    for name, content in STORE.items():
        (tmp_path / name).write_text(content)
    (mount,) = our_container(manifest)["volumeMounts"]
    env = {
        name: value.replace(mount["mountPath"], str(tmp_path))
        for name, value in environment(manifest).items()
    }
    end = await run(*SIDECAR, "check-config", env=env)
    assert (end.status, end.stderr) == (0, "")
    (tmp_path / "url").write_text("canary")
    assert (await run(*SIDECAR, "check-config", env=env)).status == 78
