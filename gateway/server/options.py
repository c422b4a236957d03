"""What gunicorn is told, made from the settings."""

from pathlib import Path
from typing import Any

from gateway.server.artefact import Compiled
from gateway.server.runtime import memory_directory

HEARTBEAT = 30
"""Seconds without a sign of life after which a worker is ended."""
GRACE = 30
"""Seconds in which requests in flight may finish after SIGTERM."""

WORKER_CLASSES = {
    "gateway": "gateway.server.worker.GatewayWorker",
    "gthread": "gateway.server.standard.ThreadedWorker",
    "sync": "sync",
}
"""By ``[server] worker``."""


def options_of(compiled: Compiled, directory: Path) -> dict[str, Any]:
    """Gunicorn's settings by name; every one whose default would come from the environment is set."""
    server = compiled.settings.server
    return {
        "bind": list(server.bind),
        "reuse_port": server.reuse_port,
        "workers": server.workers,
        "worker_class": WORKER_CLASSES[server.worker],
        # NOTE: gunicorn turns a sync worker with threads into a gthread worker.
        "threads": server.threads if server.worker == "gthread" else 1,
        "timeout": _heartbeat(compiled),
        "graceful_timeout": GRACE,
        "keepalive": max(1, round(server.idle_timeout)),
        "preload_app": False,
        "proc_name": "gateway",
        # Workers keep a heartbeat file in here, which has no name. Not in the runtime directory if it can be helped:
        # were that removed behind our back (logind does so with a user's files in /dev/shm at logout), the master
        # would end when it next starts a worker.
        "worker_tmp_dir": str(memory_directory() or directory),
        "control_socket_disable": True,
        "accesslog": None,
        # Its lines are events of the log (``log.ServerLog``), which decides by its own level.
        "errorlog": None,
        "loglevel": "debug" if compiled.settings.log.level == "debug" else "info",
        "http_parser": "python",
        "limit_request_line": 8190,
        "limit_request_fields": 100,
        "limit_request_field_size": 8190,
        # A header with _ in its name is refused: in the WSGI environ it would take the place of one with -.
        "header_map": "refuse",
        "forwarder_headers": "",
        "forwarded_allow_ips": ",".join(server.trusted_proxies),
        "secure_scheme_headers": {"X-FORWARDED-PROTO": "https"},
        "certfile": server.certfile or None,
        "keyfile": server.keyfile or None,
    }


def _heartbeat(compiled: Compiled) -> int:
    """Seconds of ``timeout``. A sync worker shows no life during a request, so there the longest one counts."""
    if compiled.settings.server.worker != "sync":
        return HEARTBEAT
    server = compiled.settings.server
    longest = max([server.timeout, *(query.timeout for query in compiled.catalogue.queries.values())])
    return HEARTBEAT + round(longest + server.head_timeout + server.body_timeout)
