"""PgBouncer in front of a cluster's servers."""

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from psycopg2.extensions import parse_dsn

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from gateway.demo.launching import tail
from gateway.demo.ports import find_port
from tests.test_deploy import find_program

DEBIANS = Path("/usr/sbin/pgbouncer")
"""Where not everybody looks for programs."""
PATIENCE = 20.0
"""Seconds in which it has started."""


MODE = os.environ.get("GATEWAY_TEST_POOLER", "")
"""``session`` or ``transaction``: all gateways of the tests then have a PgBouncer in between."""


@contextmanager
def between(cluster: Cluster, folder: Path, endpoints: Mapping[str, str]) -> Iterator[dict[str, dict[str, str | bool]]]:
    """The settings of endpoints with these DSNs, through a pooler where the environment asks for one."""
    if not MODE:
        yield {name: {"dsn": dsn} for name, dsn in endpoints.items()}
        return
    folder.mkdir()
    with pgbouncer(cluster, folder, MODE, endpoints) as pooled:
        yield {name: {"dsn": dsn, "prepare": MODE == "session"} for name, dsn in pooled.items()}


@contextmanager
def pgbouncer(
    cluster: Cluster, folder: Path, mode: str, endpoints: Mapping[str, str] | None = None
) -> Iterator[dict[str, str]]:
    """The DSN of each endpoint (or server) through PgBouncer, which pools in this mode."""
    program = str(DEBIANS) if DEBIANS.exists() else find_program("pgbouncer", "apt-get install pgbouncer")
    port = find_port()
    endpoints = endpoints or {server.name: shop.dsn(server) for server in cluster.servers}
    behind = {name: parse_dsn(dsn) for name, dsn in endpoints.items()}
    databases = "\n".join(
        f"{name} = host={dsn['host']} port={dsn['port']} dbname={dsn['dbname']}" for name, dsn in behind.items()
    )
    (folder / "users.txt").write_text(f'"{shop.ROLE}" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"""[databases]
{databases}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder / "users.txt"}
pool_mode = {mode}
default_pool_size = 60
max_client_conn = 300
ignore_startup_parameters = options, extra_float_digits
server_login_retry = 1
"""
    )
    log = folder / "log"
    command = [program, str(folder / "pgbouncer.ini")]
    if os.geteuid() == 0:  # it does not run as root
        command[1:1] = ["-u", "nobody"]
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, "nobody")
        for path in (folder, folder.parent):
            path.chmod(0o755)
    running = cluster.launch(command, log=log, environment=dict(os.environ), cwd=folder)
    try:
        ends = time.monotonic() + PATIENCE
        while "process up" not in log.read_text():
            assert time.monotonic() < ends, tail(log)
            time.sleep(0.01)
        yield {name: f"host=127.0.0.1 port={port} dbname={name} user={shop.ROLE} sslmode=disable" for name in endpoints}
    finally:
        running.terminate()
        running.wait(20)
