"""Who runs PostgreSQL, which refuses root: whoever we are, else the user ``postgres``, else ``nobody``."""

import os
import pwd
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.demo.failures import ClusterError


@dataclass(frozen=True)
class Account:
    """A user to run programs as and to own their files; only root has use for one."""

    uid: int
    gid: int

    def runs(self, command: Sequence[str | Path]) -> bool:
        """Whether the command succeeds as this user; False as well where the user cannot even reach it."""
        try:
            done = subprocess.run(  # noqa: S603 -- our own words
                command,
                user=self.uid,
                group=self.gid,
                extra_groups=[],
                cwd="/",
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
        except PermissionError:
            return False
        return done.returncode == 0

    def enters(self, directory: Path) -> bool:
        """Whether this user may pass through the directory."""
        return self.runs(["/bin/sh", "-c", 'cd -- "$1"', "sh", directory])


def choose_account() -> Account | None:
    """The user to run PostgreSQL as; None for an ordinary user, who runs it as himself."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise ClusterError("PostgreSQL refuses to run as root, and there is no user postgres or nobody to run it as")


def choose_place(account: Account | None) -> Path:
    """A directory for temporary files that the user can pass through; nobody's permissions are changed for it."""
    here = Path(tempfile.gettempdir())
    if account is None or account.enters(here):
        return here
    for place in map(Path, ("/tmp", "/var/tmp", "/dev/shm")):  # noqa: S108 -- fresh random names below them
        if place.is_dir() and account.enters(place):
            return place
    raise ClusterError(f"PostgreSQL refuses to run as root, and no other user can enter {here} or /tmp")
