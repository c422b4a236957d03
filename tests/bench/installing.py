"""What contenders need and this machine may not have: found, or put into ``.bench`` once."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.bench.failures import NotHere

ROOT = Path(__file__).parents[2]
STORE = ROOT / ".bench"
_PATIENCE = 600.0  # seconds for one command


def install_once(home: Path, manifest: Path, install: Callable[[], None]) -> None:
    """Install, unless that has been done with just this manifest and brought to its end."""
    stamp = home / ".installed"
    wanted = hashlib.sha256(manifest.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"installing {manifest.relative_to(ROOT)} into {home.relative_to(ROOT)}", file=sys.stderr, flush=True)
    home.mkdir(parents=True, exist_ok=True)
    install()
    stamp.write_text(wanted)


def find_program(name: str, needed: str) -> str:
    """Path of a program; NotHere says what is needed."""
    path = shutil.which(name)
    if path is None:
        raise NotHere(f"{name} is not installed ({needed})")
    return path


def run(command: Sequence[str], *, directory: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
    """What a command prints; NotHere with the end of its complaint if it fails."""
    try:
        done = subprocess.run(  # noqa: S603 -- our own words
            command, cwd=directory, env=environment, capture_output=True, text=True, check=False, timeout=_PATIENCE
        )
    except subprocess.TimeoutExpired:
        raise NotHere(f"{' '.join(command[:3])} did not end within {_PATIENCE:g} s") from None
    if done.returncode:
        complaint = (done.stderr.strip() or done.stdout.strip() or str(done.returncode)).splitlines()[-3:]
        raise NotHere(f"{' '.join(command[:3])}: {' / '.join(complaint)}")
    return done.stdout.strip()
