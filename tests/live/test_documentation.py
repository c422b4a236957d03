"""README.md and the pages of docs/: their commands, queries and programs, run as they stand.

A page's console and Python blocks are one session in one folder, from its first to its last, over a demo of its own.
The pages say port 8080 and the demo is on another one: curl's own configuration sends it there, so that a line is run
as somebody would paste it. Commands for a running gateway find the demo's, though others run on this machine.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.catalogue.compiling import compile_catalogue
from gateway.demo import shop
from gateway.demo.cluster import Cluster
from gateway.postgres.learning import learn
from gateway.postgres.objects import Book
from gateway.server.registry import nodes
from tests.documentation import PAGES, ROOT, Block, blocks, commands
from tests.live.databases import GROUPS, connect, soon
from tests.live.test_demo import COMMAND, LAST_LINE, read_until, started
from tests.test_deploy import find_program

SESSIONS = [page for page in PAGES if any(blocks(page, "console", "python"))]
FILES = ("sql", "toml", "yaml")
"""Languages of what is written to a file, where the page names one."""
MARK = "\x1e"
"""Printed between the outputs of a session's commands."""
OF_NODE = """
gateway() {
    case $1 in
        drain|resume|learn|reload|requests|explain) command gateway "$@" --pid "$NODE" ;;
        *) command gateway "$@" ;;
    esac
}
"""
CHANGING = {
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)": "TIME",
    r"\b[0-9a-f]{16}-[0-9a-f]+\b": "REQUEST",
}
"""What is another one in every run, and what stands for it in the comparison."""


def names(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


@contextmanager
def demo(folder: Path) -> Iterator[dict[str, str]]:
    """A running demo, and the environment of somebody who uses it from this folder."""
    environment = {"XDG_RUNTIME_DIR": str(folder)}
    with started([*COMMAND, "--mcp"], **environment) as process:
        said = read_until(process, LAST_LINE)
        served, primary = (
            re.search(r"Serving http://127\.0\.0\.1:(\d+)", said),
            re.search(r"primary on port (\d+)", said),
        )
        assert served
        assert primary
        redirected = (f'connect-to = "{host}:8080:127.0.0.1:{served[1]}"\n' for host in ("127.0.0.1", "localhost"))
        (node,) = nodes([folder])
        (folder / ".curlrc").write_text("".join(redirected))
        yield {
            **environment,
            "CURL_HOME": str(folder),
            "DATABASE_URL": f"postgresql://{shop.ROLE}@127.0.0.1:{primary[1]}/{shop.DATABASE}",
            "HOME": str(folder),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "PORT": served[1],
            "NODE": str(node.pid),
        }


def script(steps: list[Block], port: str) -> str:
    """A shell script that does all that the blocks say, with a MARK before and after what each command prints."""
    lines = [OF_NODE]
    for number, block in enumerate(steps):
        if block.file:
            text = block.text.replace(":8080", f":{port}") if block.language == "python" else block.text
            lines.append(f"mkdir -p {Path(block.file).parent}; cat > {block.file} <<'END OF FILE'\n{text}\nEND OF FILE")
        elif block.language == "python":
            program = block.text.replace(":8080", f":{port}")
            lines.append(f"python - <<'END OF FILE' || exit {100 + number}\n{program}\nEND OF FILE")
        else:
            lines += [f"printf '{MARK}'\n{command.line}\nprintf '{MARK}'" for command in commands(block)]
    return "\n".join(lines) + "\n"


def plain(output: str) -> str:
    """Without the line breaks that only the page has, and with words in place of what changes."""
    joined = "".join(line.strip() for line in output.splitlines())
    for pattern, word in CHANGING.items():
        joined = re.sub(pattern, word, joined)
    return joined


def fits(page_says: str, printed: str) -> bool:
    """Whether this was printed; an ellipsis on the page stands for anything."""
    pattern = ".*".join(map(re.escape, plain(page_says).split("…")))
    return re.fullmatch(pattern, plain(printed)) is not None


@pytest.mark.system
@pytest.mark.parametrize("page", SESSIONS, ids=names(SESSIONS))
def test_every_command_and_program_of_a_page_does_what_the_page_says(page: Path, tmp_path: Path) -> None:
    find_program("curl", "on Debian and Ubuntu, apt-get install curl")
    steps = [block for block in blocks(page, "console", "python", *FILES) if block.language not in FILES or block.file]
    pasted = [command for block in steps if block.language == "console" for command in commands(block)]
    with demo(tmp_path) as environment:
        done = subprocess.run(  # noqa: S603 -- our own pages
            ["/bin/bash", "-c", script(steps, environment["PORT"])],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stdout
    printed = done.stdout.split(MARK)[1::2]
    assert len(printed) == len(pasted)
    for command, output in zip(pasted, printed, strict=True):
        assert fits(command.output, output), f"$ {command.line}\n{output}"


@pytest.mark.parametrize("page", PAGES, ids=names(list(PAGES)))
def test_every_sql_of_a_page_is_accepted_by_the_server(page: Path, cluster: Cluster, tmp_path: Path) -> None:
    connection = connect(shop.dsn(cluster.primary))
    try:
        for number, block in enumerate(block for block in blocks(page, "sql") if not block.file):
            if "-- name:" not in block.text:
                cluster.primary.sql(f"BEGIN;\n{block.text}\nROLLBACK;", shop.DATABASE)
                continue
            file = tmp_path / f"{number}.sql"
            file.write_text(block.text, encoding="utf-8")
            catalogue = compile_catalogue([file], groups=GROUPS, timeout=5.0)
            assert catalogue.warnings == ()
            for query in catalogue.queries.values():
                learn(connection, query, Book(), soon())
    finally:
        connection.close()
