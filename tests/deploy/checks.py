"""Rules that every manifest keeps, beside those of the Kubernetes schema.

Each check yields a line for each violation. They know the settings, so that a port or a time that
is changed on one side alone is a violation.
"""

from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version

from sidecar.probe import PROBES
from sidecar.settings.conflicts import find_warnings
from sidecar.settings.model import Settings, name_of
from sidecar.settings.sources import SettingsError, load
from tests.deploy.manifests import (
    NAME,
    Manifest,
    Object,
    duplicates,
    environment,
    of_kind,
    our_container,
    our_pod,
    pods,
    ports,
)

LISTENERS = {"rest": "rest_listen", "grpc": "grpc_listen", "admin": "admin_listen"}
# Of kubelet, where a probe does not say it.
_PERIOD, _FAILURES, _TIMEOUT = 10, 3, 1
# What the checks below read of a ServiceMonitor, whose schema no package has.
_MONITOR = {"selector", "endpoints"}
_ENDPOINT = {"port", "path", "interval", "scrapeTimeout"}


def violations_of(manifest: Manifest) -> list[str]:
    """Return every violation. Where the settings are wrong, these alone."""
    container = our_container(manifest)
    names = [each["name"] for each in container["env"]]
    found = [f"{name}: stands twice in env" for name in duplicates(names)]
    try:
        settings = load(environment(manifest), {}, needs_upstream=True)
    except SettingsError as error:
        return [*found, *error.violations]
    return found + [line for check in _CHECKS for line in check(manifest, settings)]


def _check_names(manifest: Manifest, _settings: Settings) -> Iterator[str]:
    names = [f"{each['kind']} {each['metadata']['name']}" for each in manifest]
    yield from (f"{name}: stands twice" for name in duplicates(names))


def _check_ports(manifest: Manifest, settings: Settings) -> Iterator[str]:
    """Find ports that are not those of a listener which others can reach."""
    for name, port in ports(manifest).items():
        address = getattr(settings, LISTENERS[name])
        if address.port != port:
            yield f"port {name}: {port} is not that of {address}"
        if address.is_loopback:
            yield f"port {name}: {address} is not reachable"


def _check_warnings(_manifest: Manifest, settings: Settings) -> Iterator[str]:
    """Find settings of which the sidecar would warn, such as no public URL."""
    for name, remedy in find_warnings(settings):
        yield f"{name_of(name)}: {remedy}"


def _check_probes(manifest: Manifest, settings: Settings) -> Iterator[str]:
    container = our_container(manifest)
    for name, path in zip(("readiness", "liveness", "startup"), PROBES, strict=True):
        probe = container[f"{name}Probe"]
        asked = probe["httpGet"]
        if asked["path"] != f"/{path}" or asked["port"] != "admin":
            yield f"{name}Probe: asks {asked}"
        if probe.get("timeoutSeconds", _TIMEOUT) > probe.get("periodSeconds", _PERIOD) and (
            name != "startup"
        ):
            yield f"{name}Probe: takes longer than its period"
    probe = container["readinessProbe"]
    noticed = probe.get("periodSeconds", _PERIOD) * probe.get("failureThreshold", _FAILURES)
    if settings.lame_duck and noticed >= settings.lame_duck:
        yield f"readinessProbe: notices the lame duck after {noticed} s"


def _check_grace(manifest: Manifest, settings: Settings) -> Iterator[str]:
    """Find a time before SIGKILL that is shorter than the settings say.

    `load` holds that the phases of the shutdown and their margin fit into the setting.
    """
    grace = our_pod(manifest)["spec"]["terminationGracePeriodSeconds"]
    if grace < settings.termination_grace:
        yield f"terminationGracePeriodSeconds: {grace} s are less than the setting"
    if "lifecycle" in our_container(manifest):
        yield "lifecycle: the lame duck needs no hook"


def _check_services(manifest: Manifest, _settings: Settings) -> Iterator[str]:
    labels, named = our_pod(manifest)["metadata"]["labels"], ports(manifest)
    for service in of_kind(manifest, "Service"):
        name, spec = service["metadata"]["name"], service["spec"]
        if not spec["selector"].items() <= labels.items():
            yield f"Service {name}: selects no Pod"
        for port in spec["ports"]:
            if named.get(port["targetPort"]) != port["port"]:
                yield f"Service {name}: has no port {port['targetPort']} at {port['port']}"
        if "grpc" in [port["name"] for port in spec["ports"]] and spec.get("clusterIP") != "None":
            yield f"Service {name}: would send all calls of a connection to one Pod"


def _check_selectors(manifest: Manifest, _settings: Settings) -> Iterator[str]:
    """Find selectors that fit no Pod, and scaling of nothing."""
    labels = our_pod(manifest)["metadata"]["labels"]
    selectors: list[tuple[str, Mapping[str, str]]] = []
    for kind, member in (
        ("Deployment", "selector"),
        ("PodDisruptionBudget", "selector"),
        ("NetworkPolicy", "podSelector"),
    ):
        selectors += [
            (kind, each["spec"][member]["matchLabels"]) for each in of_kind(manifest, kind)
        ]
    spread = our_pod(manifest)["spec"].get("topologySpreadConstraints", ())
    selectors += [("spread", each["labelSelector"]["matchLabels"]) for each in spread]
    yield from (
        f"{kind}: selects no Pod"
        for kind, wanted in selectors
        if not wanted.items() <= labels.items()
    )
    for scaler in of_kind(manifest, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        deployed = [each["metadata"]["name"] for each in of_kind(manifest, target["kind"])]
        if target["name"] not in deployed:
            yield "HorizontalPodAutoscaler: scales nothing"
        if not our_container(manifest)["resources"]["requests"].get("cpu"):
            yield "HorizontalPodAutoscaler: there is no request of CPU to compare with"


def _check_network(manifest: Manifest, _settings: Settings) -> Iterator[str]:
    """Find ports that a NetworkPolicy forgets, and an admin port open to more than Prometheus."""
    for policy in of_kind(manifest, "NetworkPolicy"):
        rules = {
            port["port"]: rule.get("from")
            for rule in policy["spec"]["ingress"]
            for port in rule["ports"]
        }
        if rules.keys() != ports(manifest).keys():
            yield f"NetworkPolicy: is about {sorted(rules)}"
        sources = rules.get("admin") or [{}]
        if not all({"namespaceSelector", "podSelector"} <= source.keys() for source in sources):
            yield "NetworkPolicy: opens the admin port to more than Prometheus"


def _check_restrictions(manifest: Manifest, _settings: Settings) -> Iterator[str]:
    """Find what a namespace with the Pod Security Standard `restricted` would refuse, and more."""
    for pod in pods(manifest):
        spec = pod["spec"]
        context = spec["securityContext"]
        if not (context["runAsNonRoot"] and context["runAsUser"]):
            yield "Pod: runs as root"
        if context["seccompProfile"] != {"type": "RuntimeDefault"}:
            yield "Pod: has no seccomp profile"
        if spec.get("enableServiceLinks", True):
            yield "Pod: has variables for Services"
        for container in [*spec.get("initContainers", ()), *spec["containers"]]:
            yield from _check_container(container)
    accounts = of_kind(manifest, "ServiceAccount")
    if any(account.get("automountServiceAccountToken", True) for account in accounts):
        yield "ServiceAccount: its token is mounted"


def _check_container(container: Object) -> Iterator[str]:
    restricted = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    if container["securityContext"] != restricted:
        yield f"{container['name']}: is not restricted"
    if "memory" not in container["resources"]["limits"]:
        yield f"{container['name']}: has no limit of memory"
    tag = container["image"].rpartition(":")[2]
    if container["name"] == NAME and tag != version(NAME):
        yield f"{container['name']}: is not of this version"


def _check_files(manifest: Manifest, settings: Settings) -> Iterator[str]:
    """Find certificates that no volume holds."""
    mounts = {
        each["mountPath"]: each["name"] for each in our_container(manifest).get("volumeMounts", ())
    }
    volumes = {each["name"]: each for each in our_pod(manifest)["spec"].get("volumes", ())}
    secrets = {each["metadata"]["name"]: each["data"] for each in of_kind(manifest, "Secret")}
    for name in Settings.model_fields:
        path = getattr(settings, name)
        if "_tls_" not in name or path is None:
            continue
        volume = volumes.get(mounts.get(str(path.parent), ""), {"secret": {"secretName": ""}})
        if path.name not in secrets.get(volume["secret"]["secretName"], {}):
            yield f"{name}: {path} is in no Secret"


def _check_monitors(manifest: Manifest, _settings: Settings) -> Iterator[str]:
    """Find a ServiceMonitor that finds no Service, or asks what is not served."""
    for monitor in of_kind(manifest, "ServiceMonitor"):
        spec = monitor["spec"]
        selected = [
            service
            for service in of_kind(manifest, "Service")
            if spec["selector"]["matchLabels"].items()
            <= service["metadata"].get("labels", {}).items()
        ]
        if len(selected) != 1:
            yield f"ServiceMonitor: selects {len(selected)} Services"
        offered = {port["name"] for service in selected for port in service["spec"]["ports"]}
        for endpoint in spec["endpoints"]:
            if endpoint["port"] not in offered or endpoint["path"] != "/metrics":
                yield f"ServiceMonitor: asks {endpoint['path']} of {endpoint['port']}"
            if spec.keys() != _MONITOR or endpoint.keys() != _ENDPOINT:
                yield "ServiceMonitor: has members that nothing here checks"


_CHECKS: tuple[Callable[[Manifest, Settings], Iterator[str]], ...] = (
    _check_names,
    _check_ports,
    _check_warnings,
    _check_probes,
    _check_grace,
    _check_services,
    _check_selectors,
    _check_network,
    _check_restrictions,
    _check_files,
    _check_monitors,
)
