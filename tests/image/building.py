"""Builds the Dockerfile for real, without a Docker engine and without a registry.

mmdebstrap makes a stand-in for the base image, Debian trixie with its Python; buildah builds on that by the base
image's name. Nothing but Debian's mirror and the package index is asked.
"""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.documentation import ROOT
from tests.test_deploy import find_program

BASE = "docker.io/library/python:3.13-slim-trixie"
"""As the Dockerfile says it, in full."""
IMAGE = "localhost/pg-query-gateway"
PACKAGES = "passwd,python-is-python3,python3-venv,python3-pip,ca-certificates"
"""What the base image has of what the Dockerfile uses."""
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
_PATIENCE = 600


class Builder:
    """Images and containers in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        buildah = find_program("buildah", "on Debian and Ubuntu, apt-get install buildah")
        self._buildah = (buildah, "--root", str(folder / "storage"), "--runroot", str(folder / "run"))

    def buildah(self, *words: str | Path) -> str:
        """Run one of its commands; what it prints."""
        return run((*self._buildah, *map(str, words)))

    def make_base(self) -> None:
        """Make the stand-in for the base image, which asks for packages as this machine does."""
        mmdebstrap = find_program("mmdebstrap", "on Debian and Ubuntu, apt-get install mmdebstrap")
        tar = self._folder / "base.tar"
        run((mmdebstrap, "--quiet", "--mode=root", "--variant=apt", f"--include={PACKAGES}", "trixie", str(tar)))
        container = self.buildah("from", "scratch")
        self.buildah("add", "-q", container, tar, "/")
        tar.unlink()
        ours = {name: value for name, value in os.environ.items() if name.startswith("PIP_") and "LINKS" not in name}
        self.buildah("config", *(f"--env={name}={value}" for name, value in ours.items()), container)
        if Path(AUTHORITIES).exists():
            self.buildah("copy", "-q", container, AUTHORITIES, AUTHORITIES)
        self.buildah("commit", "-q", "--rm", container, BASE)

    def build(self) -> None:
        """Build the Dockerfile."""
        self.buildah("bud", "-q", "--isolation=chroot", "--pull-never", "--layers=false", "-t", IMAGE, ROOT)

    def added(self) -> int:
        """The bytes that the image has beyond its base."""
        images = json.loads(self.buildah("images", "--json"))
        sizes = {name: image["size"] for image in images for name in image.get("names") or ()}
        return _bytes(sizes[f"{IMAGE}:latest"]) - _bytes(sizes[BASE])

    @contextmanager
    def container(self, image: str = IMAGE) -> Iterator[str]:
        """A container, that can be changed; its name."""
        name = self.buildah("from", "--pull-never", image)
        yield name
        self.buildah("rm", name)

    def configuration(self) -> dict[str, Any]:
        """What the image says of how it is run."""
        found: dict[str, Any] = json.loads(self.buildah("inspect", "--type=image", IMAGE))["OCIv1"]["config"]
        return found


def run(command: Sequence[str]) -> str:
    """Run a program of ours to its end; what it prints."""
    done = subprocess.run(  # noqa: S603 -- our own words
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=_PATIENCE
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout.strip()


def _bytes(size: str) -> int:
    number, unit = size.split()
    return round(float(number) * {"KB": 1e3, "MB": 1e6, "GB": 1e9}[unit])
