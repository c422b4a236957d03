"""``make fuzz``: input that means harm, given to everything that reads input, and to a running gateway.

    make fuzz                                   a million bodies, 100,000 heads, 100,000 of everything else
    make fuzz ARGS="--seed 7 --only heads"      the same inputs as every time with this seed
    make fuzz ARGS="--guided 600"               each target for so many seconds, guided by coverage (atheris)

Ends with status 1 where something was found; the inputs that did it are in ``.fuzz/``.
"""

import importlib.util
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from tests.fuzz.fuzzing import Finding, Found, fuzz
from tests.fuzz.running import (
    LOGGED,
    attacked,
    refuse_new_words,
    send_bodies,
    send_examples,
    send_heads,
    words_run,
)
from tests.fuzz.targets import TARGETS

FOLDER = Path(".fuzz")
COUNT = 100_000
BODIES = 1_000_000
LOOKED_AT = 20_000
"""Bodies whose statements are looked at in the server's log."""
RUNNING = "running"


@click.command()
@click.option("--seed", type=int, help="The same seed makes the same inputs.  [default: another one each time]")
@click.option("--only", type=click.Choice([*TARGETS, RUNNING]), multiple=True, help="Leave out the rest.")
@click.option("--scale", type=float, default=1.0, show_default=True, help="So many times as many inputs.")
@click.option("--guided", type=int, metavar="SECONDS", help="For so long each, guided by coverage.")
def main(seed: int | None, only: tuple[str, ...], scale: float, guided: int | None) -> None:
    """Give input that means harm to everything that reads input."""
    seed = random.randrange(2**32) if seed is None else seed  # noqa: S311 -- it is printed
    click.echo(f"seed {seed}")
    chosen = [name for name in (*TARGETS, RUNNING) if not only or name in only]
    if guided is not None:
        sys.exit(_guided([name for name in chosen if name in TARGETS], guided, seed))
    found = 0
    for name in chosen:
        if name == RUNNING:
            found += _run(seed, scale)
            continue
        began = time.monotonic()
        outcomes, findings = fuzz(
            name, TARGETS[name], seed=seed, count=int(scale * (BODIES if name == "bodies" else COUNT))
        )
        _tell(name, outcomes, time.monotonic() - began)
        for number, finding in enumerate(findings):
            _keep(f"{name}-{seed}-{number}", finding)
        found += len(findings)
    sys.exit(1 if found else 0)


def _tell(name: str, outcomes: Counter[str], took: float) -> None:
    words = ", ".join(f"{outcome} {count}" for outcome, count in outcomes.most_common())
    click.echo(f"{name}: {outcomes.total()} in {took:.0f} s: {words}")


def _keep(name: str, finding: Found) -> None:
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / name).write_bytes(finding.data)
    click.secho(f"  FOUND {FOLDER / name}: {type(finding.error).__name__}: {finding.error}"[:2000], fg="red", err=True)


def _run(seed: int, scale: float) -> int:
    """Attack a running gateway; returns 1 if something was found."""
    with Cluster(replicas=0, settings=LOGGED) as cluster, tempfile.TemporaryDirectory() as folder:
        shop.load(cluster)
        try:
            with attacked(cluster, Path(folder)) as node:
                send_examples(node)
                known = words_run(cluster)
                began = time.monotonic()
                _tell("bodies sent", send_bodies(node, seed, int(LOOKED_AT * scale)), time.monotonic() - began)
                refuse_new_words(cluster, known)
                cluster.primary.configure({"log_statement": "none"})
                cluster.primary.reload()
                began = time.monotonic()
                _tell("bodies sent", send_bodies(node, seed + 1, int(COUNT * scale)), time.monotonic() - began)
                began = time.monotonic()
                _tell("heads sent", send_heads(node, seed, int(COUNT * scale)), time.monotonic() - began)
        except Finding as finding:
            click.secho(f"  FOUND {finding}"[:4000], fg="red", err=True)
            return 1
    return 0


def _guided(names: list[str], seconds: int, seed: int) -> int:
    if importlib.util.find_spec("atheris") is None:
        click.secho(
            "atheris is not installed; it has wheels for some Pythons only: .venv/bin/pip install atheris", err=True
        )
        return 1
    worst = 0
    for name in names:
        click.echo(f"{name}: guided for {seconds} s")
        command = [sys.executable, "-m", "tests.fuzz.guided", name, str(seconds), str(seed), str(FOLDER)]
        worst = max(worst, subprocess.run(command, check=False).returncode)  # noqa: S603 -- our own words
    return min(worst, 1)


if __name__ == "__main__":
    main()
