"""What is released: wheel and sdist, what is in them, and that the wheel runs in an environment of its own."""

import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from gateway import __version__
from tests.documentation import ROOT
from tests.live.test_demo import LAST_LINE, read_until

NAME = f"pg_query_gateway-{__version__}"
PURE = sysconfig.get_path("purelib")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-d", str(folder), cwd=ROOT)
    assert {file.name for file in folder.iterdir()} == {f"{NAME}-py3-none-any.whl", f"{NAME}.tar.gz"}
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> set[str]:
    with zipfile.ZipFile(built / f"{NAME}-py3-none-any.whl") as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with nothing of ours but the wheel; what it depends on is the tests' own."""
    folder = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", str(folder))
    python = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index")
    run(*pip, str(built / f"{NAME}-py3-none-any.whl"))
    # A path in a .pth file is not searched for .pth files itself: this repository is not found through it.
    (Path(said(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")) / "needed.pth").write_text(
        f"{PURE}\n"
    )
    return folder / "bin"


def run(*command: str, cwd: Path | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)  # noqa: S603 -- our own words
    assert done.returncode == 0, done.stdout + done.stderr


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout.strip()  # noqa: S603


def tracked(folder: str) -> Iterator[str]:
    """Files of the repository below this folder, without what Python makes of them."""
    for path in (ROOT / folder).rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            yield str(path.relative_to(ROOT))


def test_the_version_is_written_in_one_place_and_told_by_what_cannot_read_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert ("version" in project, project["dynamic"]) == (False, ["version"])
    assert yaml.safe_load((ROOT / "openapi.yaml").read_text())["info"]["version"] == __version__


def test_the_wheel_has_all_of_the_package_and_nothing_else(wheel: set[str]) -> None:
    assert {name for name in wheel if name.startswith("gateway/")} == set(tracked("gateway"))
    assert {name.partition("/")[0] for name in wheel} == {"gateway", f"{NAME}.dist-info"}
    assert f"{NAME}.dist-info/licenses/LICENSE" in wheel


def test_the_sdist_makes_the_same_wheel(built: Path, wheel: set[str], tmp_path: Path) -> None:
    run("tar", "-xzf", str(built / f"{NAME}.tar.gz"), "-C", str(tmp_path), cwd=tmp_path)
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path), cwd=tmp_path / NAME)
    with zipfile.ZipFile(tmp_path / f"{NAME}-py3-none-any.whl") as again:
        assert set(again.namelist()) == wheel


def test_the_wheel_runs_the_demo_in_an_environment_of_its_own(installed: Path, tmp_path: Path) -> None:
    place = said(str(installed / "python"), "-c", "import gateway; print(gateway.__file__)")
    assert Path(place).is_relative_to(installed.parent)
    assert said(str(installed / "gateway"), "--version") == f"gateway, version {__version__}"
    command = [str(installed / "gateway"), "demo", "--port", "0", "--workers", "1", "--replicas", "1"]
    with subprocess.Popen(  # noqa: S603 -- our own words
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
    ) as demo:
        try:
            served = re.search(r"Serving (http://\S+)", read_until(demo, LAST_LINE))
            assert served is not None
            assert httpx.get(f"{served[1]}/health/ready", trust_env=False).status_code == 200
            assert httpx.get(f"{served[1]}/docs", trust_env=False).status_code == 200
        finally:
            demo.terminate()
            demo.wait(20)
