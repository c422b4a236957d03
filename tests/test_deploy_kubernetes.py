"""deploy/kubernetes: each document by Kubernetes' own schemas, and what has to fit together."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from gateway import __version__
from gateway.catalogue.compiling import compile_catalogue
from gateway.node.planning import Plan, plan
from gateway.postgres.capacity import Capacity
from gateway.server.options import GRACE
from gateway.settings import Settings, examine, is_local

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy" / "kubernetes"
FOLDERS = sorted(path.parent for path in FOLDER.glob("*/kustomization.yaml"))
FILES = sorted(path for path in FOLDER.glob("*/*.yaml") if path.name != "kustomization.yaml")
FOREIGN = {"Cluster", "ServiceMonitor"}
"""Kinds of operators, whose schemas are not Kubernetes' own."""
RESERVED = 10
"""Connections of PostgreSQL's that are superusers' by default, and that CloudNativePG's own look-ups take."""
SIZES = {"Mi": 2**20, "Gi": 2**30}


def documents(*files: Path) -> Iterator[dict[str, Any]]:
    for file in files:
        yield from yaml.safe_load_all(file.read_text())


def the(kind: str, folder: str = "base") -> dict[str, Any]:
    """The one document of this kind."""
    (found,) = (each for each in documents(*(FOLDER / folder).glob("*.yaml")) if each["kind"] == kind)
    return found


def pod(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = the("Deployment", folder)["spec"]["template"]["spec"]
    return found


def container(folder: str) -> dict[str, Any]:
    """The gateway's."""
    spec = pod(folder)
    (found,) = (each for each in (*spec.get("initContainers", ()), *spec["containers"]) if each["name"] == "gateway")
    return dict(found)


def settings_of(folder: str) -> Settings:
    """The settings file, as far as it can be read without the secrets that it names."""
    found = examine(FOLDER / folder / "gateway.toml", {}, with_secrets=False)
    assert found.settings is not None
    assert found.faults == ()
    return found.settings


@pytest.fixture(scope="module")
def planned() -> Plan:
    """What ``gateway plan`` says of as many pods as there may be, over the servers of cloudnativepg/."""
    settings = settings_of("base")
    most = int(the("Cluster", "cloudnativepg")["spec"]["postgresql"]["parameters"]["max_connections"])
    scaler, deployment = the("HorizontalPodAutoscaler"), the("Deployment")
    return plan(
        settings,
        {"db": Capacity(max_connections=most, reserved=RESERVED, others=0, limit=None)},
        nodes=scaler["spec"]["maxReplicas"],
        surge=deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"],
        grace=GRACE,
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(FOLDER)))
def test_a_document_is_as_kubernetes_takes_it(file: Path) -> None:
    for document in documents(file):
        if document["kind"] not in FOREIGN:
            kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_folder_names_all_that_is_in_it(folder: Path) -> None:
    (kustomization,) = documents(folder / "kustomization.yaml")
    generated = [file for each in kustomization.get("configMapGenerator", ()) for file in each["files"]]
    named = {*kustomization.get("resources", ()), *generated}
    there = {file.name for file in folder.iterdir()} - {"kustomization.yaml"}
    assert {name for name in named if "/" not in name} == there
    assert all((folder / name).is_dir() for name in named if "/" in name)
    assert {image["newTag"] for image in kustomization.get("images", ())} <= {__version__}


def test_what_pods_mount_is_made_here_or_is_a_secret() -> None:
    made = {
        each["name"]
        for folder in FOLDERS
        for each in next(documents(folder / "kustomization.yaml")).get("configMapGenerator", ())
    }
    for folder in ("base", "sidecar"):
        volumes = {volume["name"]: volume for volume in pod(folder)["volumes"]}
        assert {mount["name"] for mount in container(folder)["volumeMounts"]} == volumes.keys()
        assert {volume["configMap"]["name"] for volume in volumes.values() if "configMap" in volume} <= made


@pytest.mark.parametrize("folder", ["base", "sidecar"])
def test_files_that_the_settings_name_are_mounted(folder: str) -> None:
    settings, mounts = settings_of(folder), [mount["mountPath"] for mount in container(folder)["volumeMounts"]]
    files = [endpoint.password_file for endpoint in settings.endpoints.values()]
    files += [
        word.partition("=")[2] for word in settings.endpoints["db"].dsn.split() if word.startswith("sslrootcert=")
    ]
    files += filter(None, [settings.auth.keys_file])
    assert [file for file in files if str(Path(file).parent) not in mounts] == []
    assert "/etc/gateway" in mounts
    assert "/etc/gateway/queries" in mounts


def test_the_queries_are_those_of_compose_and_compile() -> None:
    text = (FOLDER / "queries" / "notes.sql").read_text()
    assert text == (ROOT / "deploy" / "queries" / "notes.sql").read_text()
    settings = settings_of("base")
    groups = {name: group.access for name, group in settings.groups.items()}
    assert compile_catalogue([FOLDER / "queries"], groups=groups, timeout=settings.server.timeout).queries


def test_the_gateway_listens_where_the_service_and_the_probes_ask() -> None:
    (port,) = container("base")["ports"]
    assert settings_of("base").server.bind == (f"0.0.0.0:{port['containerPort']}",)
    (published,) = the("Service")["spec"]["ports"]
    assert (published["name"], published["targetPort"]) == ("http", port["name"])
    routes = yaml.safe_load((ROOT / "openapi.yaml").read_text())["paths"]
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        asked = container("base")[probe]["httpGet"]
        assert asked["port"] == port["name"]
        assert "get" in routes[asked["path"]]
    (scraped,) = the("ServiceMonitor")["spec"]["endpoints"]
    assert (scraped["port"], "get" in routes[scraped["path"]]) == (published["name"], True)


def test_everything_selects_the_pods() -> None:
    deployment = the("Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    selectors = [
        deployment["selector"]["matchLabels"],
        the("Service")["spec"]["selector"],
        the("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        the("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ]
    assert selectors == [labels] * 4
    assert the("ServiceMonitor")["spec"]["selector"]["matchLabels"] == the("Service")["metadata"]["labels"]
    target = the("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", the("Deployment")["metadata"]["name"])


def test_a_pod_has_as_long_to_end_as_it_may_take(planned: Plan) -> None:
    assert pod("base")["terminationGracePeriodSeconds"] == planned.grace_seconds
    beside = plan(settings_of("sidecar"), {}, nodes=1, surge=0, grace=GRACE)
    assert pod("sidecar")["terminationGracePeriodSeconds"] >= beside.grace_seconds


def test_as_many_pods_as_there_may_be_fit_the_servers_during_a_roll_out_too(planned: Plan) -> None:
    assert planned.servers["db"].fits
    scaler = the("HorizontalPodAutoscaler")["spec"]
    assert 2 <= scaler["minReplicas"] <= scaler["maxReplicas"] <= (planned.servers["db"].nodes_that_fit or 0)


def test_a_pod_has_the_memory_that_it_may_take(planned: Plan) -> None:
    limit = container("base")["resources"]["limits"]["memory"]
    assert int(limit[:-2]) * SIZES[limit[-2:]] >= planned.memory_limit + 64 * SIZES["Mi"]


def test_the_service_of_all_servers_is_headless_and_in_their_certificate() -> None:
    spec = the("Cluster", "cloudnativepg")["spec"]
    (service,) = spec["managed"]["services"]["additional"]
    assert (service["selectorType"], service["serviceTemplate"]["spec"]["clusterIP"]) == ("r", "None")
    (namespace,) = (each["namespace"] for each in documents(FOLDER / "cloudnativepg" / "kustomization.yaml"))
    name = f"{service['serviceTemplate']['metadata']['name']}.{namespace}.svc"
    assert name in spec["certificates"]["serverAltDNSNames"]
    for folder in ("base", "sidecar"):
        endpoint = settings_of(folder).endpoints["db"]
        assert f"host={name} " in endpoint.dsn
        assert (endpoint.discover, endpoint.allow_insecure) == (("dns",), False)
    (role,) = spec["managed"]["roles"]
    assert f"user={role['name']} " in settings_of("base").endpoints["db"].dsn
    assert role["inRoles"] == ["pg_monitor"]


@pytest.mark.parametrize("folder", ["base", "sidecar"])
def test_no_container_is_root_or_can_become_it_or_writes_to_its_image(folder: str) -> None:
    spec = pod(folder)
    assert spec["automountServiceAccountToken"] is False
    context = spec["securityContext"]
    assert (context["runAsNonRoot"], context["runAsUser"] > 0) == (True, True)
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    for each in (*spec.get("initContainers", ()), *spec["containers"]):
        own = each["securityContext"]
        assert (own["allowPrivilegeEscalation"], own["readOnlyRootFilesystem"]) == (False, True)
        assert own["capabilities"] == {"drop": ["ALL"]}


def test_beside_an_application_only_its_pod_reaches_the_gateway() -> None:
    (bind,) = settings_of("sidecar").server.bind
    assert is_local(bind)
    socket = Path(bind.removeprefix("unix:"))
    mounted = {each["name"]: [m["mountPath"] for m in each["volumeMounts"]] for each in pod("sidecar")["containers"]}
    assert str(socket.parent) in mounted["application"]
    assert str(socket.parent) in [mount["mountPath"] for mount in container("sidecar")["volumeMounts"]]
    assert container("sidecar")["restartPolicy"] == "Always"
    probe = container("sidecar")["startupProbe"]["exec"]["command"]
    compile(probe[2], "startupProbe", "exec")
    assert str(socket) in probe[2]
