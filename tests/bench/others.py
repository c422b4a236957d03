"""The peers as contenders: what people would otherwise run, each written as its own documentation writes it.

What they need is kept in ``.bench``; a peer that cannot be had is NotHere.
"""

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gateway.demo.cluster import Cluster
from gateway.demo.ports import find_port
from tests.bench.contender import Program
from tests.bench.failures import NotHere
from tests.bench.gateways import Sizes
from tests.bench.installing import ROOT, STORE, find_program, install_once, run

_SOURCES = Path(__file__).parent / "peers"
_GOCODE = Path("/usr/share/gocode")
_GO_PACKAGES = "golang-go golang-github-jackc-pgx-v4-dev"
_NODE_VERSIONS = """
const of = (name) => name + ' ' + require(name + '/package.json').version
console.log(`${of('fastify')}, ${of('pg')} (Node ${process.versions.node})`)
"""
_PYTHON_VERSIONS = "import importlib.metadata as m, sys; print(', '.join(f'{n} {m.version(n)}' for n in sys.argv[1:]))"


def fastify(cluster: Cluster, sizes: Sizes) -> Program:
    """Fastify and pg, a cluster of Node processes."""
    node, npm = find_program("node", "Node 20 or newer"), find_program("npm", "npm")
    home = STORE / "node"
    with_modules = {**os.environ, "NODE_PATH": str(home / "node_modules")}
    manifest = _SOURCES / "package.json"

    def install() -> None:
        shutil.copy(manifest, home)
        run([npm, "install", "--no-audit", "--no-fund", "--no-package-lock"], directory=home)

    install_once(home, manifest, install)
    title = run([node, "-e", _NODE_VERSIONS], environment=with_modules)
    command = (node, str(_SOURCES / "fastify_pg.cjs"))
    return _peer("fastify", title, command, cluster, sizes, {**with_modules, "NODE_ENV": "production"})


def go(cluster: Cluster, sizes: Sizes) -> Program:
    """Go's net/http and pgx, from Debian's packages, without modules; one process with as many processors."""
    compiler = find_program("go", f"apt-get install {_GO_PACKAGES}")
    if not (_GOCODE / "src/github.com/jackc/pgx/v4").is_dir():
        raise NotHere(f"pgx is not in {_GOCODE}: apt-get install {_GO_PACKAGES}")
    home = STORE / "go"
    home.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": str(_GOCODE), "GOCACHE": str(home / "cache")}
    binary = home / "server"
    run([compiler, "build", "-o", str(binary), str(_SOURCES / "go_pgx.go")], environment=environment)
    title = f"net/http, pgx 4 ({run([compiler, 'version']).split()[2]})"
    return _peer("go", title, (str(binary),), cluster, sizes, os.environ)


def fastapi(cluster: Cluster, sizes: Sizes) -> Program:
    """FastAPI and asyncpg under uvicorn with uvloop."""
    python = _python()
    title = run([python, "-c", _PYTHON_VERSIONS, "fastapi", "asyncpg", "uvicorn", "uvloop"])
    command = (python, "-m", "uvicorn", "fastapi_asyncpg:app", "--app-dir", str(_SOURCES), "--loop", "uvloop")
    options = ("--http", "httptools", "--workers", str(sizes.workers), "--no-access-log", "--log-level", "warning")
    return _peer("fastapi", title, command + options, cluster, sizes, os.environ, port_option="--port")


def pgdbpool(cluster: Cluster, sizes: Sizes) -> Program:
    """Falcon and pgdbpool under gunicorn's sync worker.

    Never installed by itself: pgdbpool is under the AGPL, so whether it may be here is for the user to say.
    """
    python = _python()
    try:
        title = run([python, "-c", _PYTHON_VERSIONS, "falcon", "pgdbpool", "gunicorn"])
    except NotHere:
        how = f"{Path(python).relative_to(ROOT)} -m pip install pgdbpool"
        raise NotHere(f"pgdbpool (AGPL) is not installed by make bench; if you may have it here: {how}") from None
    command = (python, "-m", "gunicorn", "falcon_pgdbpool:app", "--chdir", str(_SOURCES), "--worker-class", "sync")
    options = ("--workers", str(sizes.workers), "--log-level", "warning", "--no-control-socket")
    return _peer("pgdbpool", f"{title} sync", command + options, cluster, sizes, os.environ, port_option="--bind")


def toolbox(cluster: Cluster, sizes: Sizes) -> Program:
    """MCP Toolbox for Databases, over its own HTTP interface; one process with as many processors."""
    npm, home, manifest = find_program("npm", "npm"), STORE / "toolbox", _SOURCES / "toolbox.json"

    def install() -> None:
        shutil.copy(manifest, home / "package.json")
        run([npm, "install", "--no-audit", "--no-fund", "--no-package-lock"], directory=home)

    install_once(home, manifest, install)
    program = home / "node_modules/@toolbox-sdk/server-linux-x64/bin/toolbox"
    title = f"MCP Toolbox for Databases {run([str(program), '--version']).split()[-1].partition('+')[0]}"
    tools = (_SOURCES / "toolbox.yaml").read_text()
    configuration = home / "tools.yaml"
    configuration.write_text(tools.format(port=cluster.primary.port, pool=sizes.pool))
    options = ("--config", str(configuration), "--enable-api", "--disable-version-check", "--disable-reload")
    command = (str(program), *options, "--log-level", "ERROR")
    made = _peer("toolbox", title, command, cluster, sizes, os.environ, port_option="--port")
    return replace(made, path="/api/tool/{}/invoke", unwrap=_rows_of_toolbox)


def _rows_of_toolbox(answer: bytes) -> bytes:
    """Its answer is a list of rows, as a string; to a query of one row others answer that."""
    text = json.loads(answer)["result"]
    rows = json.loads(text)
    is_one = len(rows) == 1
    return (f'{{"row":{text[1:-1]}}}' if is_one else f'{{"rows":{text},"row_count":{len(rows)}}}').encode()


def _peer(
    name: str,
    title: str,
    command: Sequence[str],
    cluster: Cluster,
    sizes: Sizes,
    environment: Mapping[str, str],
    *,
    port_option: str = "",
) -> Program:
    """A peer that finds in its environment what it is to be."""
    port = find_port()
    address = f"127.0.0.1:{port}" if port_option == "--bind" else str(port)
    told = {
        "PORT": str(port),
        "WORKERS": str(sizes.workers),
        "POOL": str(sizes.pool_of_each),
        "PGHOST": "127.0.0.1",
        "PGPORT": str(cluster.primary.port),
        "PGUSER": "postgres",
        "PGDATABASE": "postgres",
        "PGSSLMODE": "disable",
    }
    words = (*command, port_option, address) if port_option else tuple(command)
    return Program(name, title, words, {**environment, **told}, _SOURCES, port)


def _python() -> str:
    """The interpreter of the peers' own venv, made when it is first needed."""
    home = STORE / "venv"
    python = str(home / "bin" / "python")
    requirements = _SOURCES / "requirements.txt"

    def install() -> None:
        run([sys.executable, "-m", "venv", str(home)])
        run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)])

    install_once(home, requirements, install)
    return python
