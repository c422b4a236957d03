"""PgBouncer in front of a cluster's servers."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from gateway.demo.launching import tail
from gateway.demo.ports import find_port
from tests.live.gateways import wait_until
from tests.test_deploy import find_program

DEBIANS = Path("/usr/sbin/pgbouncer")
"""Where not everybody looks for programs."""


@contextmanager
def pgbouncer(cluster: Cluster, folder: Path, mode: str) -> Iterator[dict[str, str]]:
    """The DSN of each server through PgBouncer, which pools in this mode."""
    program = str(DEBIANS) if DEBIANS.exists() else find_program("pgbouncer", "apt-get install pgbouncer")
    port = find_port()
    databases = "\n".join(
        f"{server.name} = host=127.0.0.1 port={server.port} dbname={shop.DATABASE}" for server in cluster.servers
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
        wait_until(lambda: "process up" in log.read_text(), f"PgBouncer runs:\n{tail(log)}", 20)
        yield {
            server.name: f"host=127.0.0.1 port={port} dbname={server.name} user={shop.ROLE} sslmode=disable"
            for server in cluster.servers
        }
    finally:
        running.terminate()
        running.wait(20)
