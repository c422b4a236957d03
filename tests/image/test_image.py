"""The image, built for real: how large it is, that it serves confined, and that the tests pass on its Python."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from gateway.demo.launching import tail
from gateway.demo.ports import find_port
from tests.documentation import ROOT
from tests.image.building import IMAGE, Builder
from tests.live.gateways import toml, wait_until

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="builds images by mounts and chroot, which only root may: use sudo"),
]

MOST_ADDED = 60_000_000
STRANGER = 54_321
"""A user that the image does not know."""
ON_ITS_PYTHON = (
    "tests/pool",
    "tests/rotation",
    "tests/execution",
    "tests/web",
    "--ignore=tests/web/test_spans.py",  # the image has no extra otel
    "tests/server/test_certificates.py",
)
NEEDED = ("pytest", "hypothesis", "aiosql", "corvus-regex-ecma262", "jsonschema", "openapi-spec-validator")
NEEDED_TOO = ("pyjwt[crypto]", "httpx", "isal", "backports.zstd")


@pytest.fixture(scope="module")
def builder() -> Iterator[Builder]:
    # Not below /tmp, which may be in memory: the storage is some hundred megabytes.
    folder = Path("/var/tmp") / f"gateway-image-{os.getpid()}"  # noqa: S108 -- made here, and not there before
    folder.mkdir(mode=0o755)
    try:
        made = Builder(folder)
        made.make_base()
        made.build()
        yield made
        made.buildah("rm", "--all")
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(replicas=1) as cluster:
        shop.load(cluster)
        yield cluster


def test_what_the_gateway_adds_stays_small(builder: Builder) -> None:
    added = builder.added()
    print(f"{added / 1e6:.0f} MB")
    assert 20_000_000 < added < MOST_ADDED


def test_it_serves_with_a_read_only_root_a_small_dev_shm_and_a_user_that_nobody_knows(
    builder: Builder, cluster: Cluster, tmp_path: Path
) -> None:
    configuration = tmp_path / "configuration"
    (configuration / "queries").mkdir(parents=True)
    shutil.copy(shop.QUERIES / "products.sql", configuration / "queries")
    port = find_port()
    endpoints = {f"endpoints.{server.name}": {"dsn": shop.dsn(server)} for server in cluster.servers}
    (configuration / "gateway.toml").write_text(
        toml({"server": {"bind": f"127.0.0.1:{port}", "workers": 2}, **endpoints})
    )
    tmp_path.chmod(0o755)
    image = builder.configuration()
    with builder.container() as name:
        root = Path(builder.buildah("mount", name))
        script = str(Path(__file__).parent / "confined.sh")
        command = ["/usr/bin/unshare", "--mount", "--propagation=private", "sh", script, str(root), str(configuration)]
        log, began = tmp_path / "log", time.monotonic()
        running = cluster.launch(
            [*command, str(STRANGER), *image["Entrypoint"], *image["Cmd"]],
            log=log,
            environment=dict(variable.split("=", 1) for variable in image["Env"]),
            cwd=tmp_path,
        )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
                wait_until(lambda: running.poll() is not None or is_ready(client), "ready", 30)
                assert running.poll() is None, tail(log)
                print(f"ready after {time.monotonic() - began:.2f} s")
                assert client.post("/query/product", json={"sku": "none"}).json() == {"row": None}
                workers = [worker["pid"] for worker in client.get("/health").json()["workers"]]
            assert {Path(f"/proc/{pid}").stat().st_uid for pid in (running.pid, *workers)} == {STRANGER}
            assert "cannot" not in log.read_text()
        finally:
            running.terminate()
            assert running.wait(20) == 0
    assert not list((root / "dev").glob("shm/*"))


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def test_a_part_of_the_tests_passes_on_its_python(builder: Builder) -> None:
    with builder.container(IMAGE) as name:
        run = ("run", "--isolation=chroot", "--user=0")
        python = "/opt/pg-query-gateway/bin/python"
        install = ("/usr/bin/python3", "-m", "pip", "--python", python, "install", "-q", "--no-compile")
        builder.buildah(*run, name, "--", *install, *NEEDED, *NEEDED_TOO)
        # The source is read-only: hypothesis keeps its examples elsewhere.
        shown = (f"--volume={ROOT}:/src:ro", "--workingdir=/src", "--env=HYPOTHESIS_STORAGE_DIRECTORY=/tmp/examples")
        test = (python, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not system", *ON_ITS_PYTHON)
        said = builder.buildah(*run, *shown, name, "--", *test)
    print(said)
    assert " passed" in said.splitlines()[-1]
    assert "failed" not in said.splitlines()[-1]
