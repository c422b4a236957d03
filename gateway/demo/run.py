"""``gateway demo``: an embedded cluster, the sample shop, and the gateway over them, until somebody ends it."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from gateway.demo import shop
from gateway.demo.cluster import Cluster
from gateway.demo.failures import ClusterError
from gateway.demo.launching import tail
from gateway.demo.ports import find_port, is_free

_READY_TIMEOUT = 15.0
_LEAVE_TIMEOUT = 5.0  # seconds the gateway has for the requests in flight
_LOOK_EVERY = 0.05
_PARENT_LOOK_EVERY = 0.5
_WORKERS = 4  # at most, unless asked for more: it is a demo
_SMALLEST_DEFAULT_GROUP = 8  # places of the default group `write`; each worker needs one
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SERVE = (sys.executable, "-m", "gateway", "serve")


def run(port: int, replicas: int, workers: int | None, *, auth: bool = False, mcp: bool = False) -> int:
    """Serve the demo on this port (0: a free one) until it is told to end; the command's exit status.

    Ended by SIGINT, SIGTERM, SIGHUP or the death of the process that started it. Whatever ends it, SIGKILL
    included, neither process nor directory stays behind. Faults are told in a sentence on standard error. With
    ``auth`` callers are asked for API keys. With ``mcp`` some of its queries are offered to agents.
    """
    return Demo(port=port, replicas=replicas, workers=workers, auth=auth, mcp=mcp).run()


class _Interrupted(BaseException):
    """A signal asks us to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Demo:
    """One run of the demo; ``serve`` is the command that starts the gateway, ``-c FILE`` is added to it."""

    def __init__(
        self,
        *,
        port: int,
        replicas: int,
        workers: int | None,
        auth: bool = False,
        mcp: bool = False,
        serve: Sequence[str] = _SERVE,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._port = port or find_port()
        self._workers = workers or min(len(os.sched_getaffinity(0)), _WORKERS)
        self._auth = auth
        self._mcp = mcp
        self._serve = serve
        self._say = say or _print
        self._parent = os.getppid()
        self._started = time.monotonic()
        self._cluster = Cluster(replicas=replicas, progress=self._progress)
        self._serving = False

    def run(self) -> int:
        """See ``run`` of this module. NOTE: sets signal handlers, so only the main thread can run it."""
        if not is_free(self._port):
            return self._fail(f"port {self._port} is in use; choose another one with --port, or --port 0")
        try:
            with _interruptible():
                self._say(f"Starting the demo on http://127.0.0.1:{self._port}")
                with self._cluster:
                    return self._run()
        except _Interrupted as interrupted:
            self._say("Ended; nothing is left behind.")
            return 0 if self._serving else 128 + interrupted.number
        except ClusterError as error:
            return self._fail(str(error))

    def _run(self) -> int:
        shop.load(self._cluster)
        self._progress("the shop: 400 products, 10,000 customers, 50,000 orders")
        directory = self._cluster.make_directory()
        settings = directory / "gateway.toml"
        keys = shop.make_keys(directory / "keys.toml") if self._auth else {}
        settings.write_text(self._settings(directory / "runtime", directory / "keys.toml"))
        log = directory / "gateway.log"
        command = [*self._serve, "-c", str(settings)]
        program = self._cluster.launch(command, log=log, environment=_environment())
        try:
            if not self._wait_until_ready(program):
                return self._fail(f"the gateway did not come up; it said:\n{tail(log)}")
            self._progress("the gateway: ready")
            self._serving = True
            self._say(self._invitation(log, keys))
            if not self._attend(program):
                return self._fail(f"the gateway ended by itself (exit status {program.returncode}):\n{tail(log)}")
            self._say("The process that started the demo is gone: ending.")
            return 0
        finally:
            _end(program)

    def _wait_until_ready(self, program: subprocess.Popen[bytes]) -> bool:
        """Wait until the gateway says that it can serve; False when it ends or takes too long."""
        deadline = time.monotonic() + _READY_TIMEOUT
        while program.poll() is None and time.monotonic() < deadline:
            self._look_for_parent()
            if _answers(self._port):
                return True
            time.sleep(_LOOK_EVERY)
        return False

    def _attend(self, program: subprocess.Popen[bytes]) -> bool:
        """Wait for one of two ends: of our parent (True), or of the gateway (False)."""
        while os.getppid() == self._parent:
            with suppress(subprocess.TimeoutExpired):
                program.wait(_PARENT_LOOK_EVERY)
                return False
        return True

    def _look_for_parent(self) -> None:
        """End as if hung up when nobody is there any more who could end us.

        NOTE: Asking the kernel for a signal (PR_SET_PDEATHSIG) would not do: it is sent when the thread that started
        us ends, which says nothing about its process.
        """
        if os.getppid() != self._parent:
            raise _Interrupted(signal.SIGHUP)

    def _progress(self, done: str) -> None:
        self._look_for_parent()
        self._say(f"  {time.monotonic() - self._started:4.1f} s  {done}")

    def _fail(self, why: str) -> int:
        with suppress(OSError):
            print(f"gateway demo: {why}", file=sys.stderr, flush=True)
        return 1

    def _settings(self, runtime: Path, keys: Path) -> str:
        """The gateway's settings; strings as JSON writes them are strings in TOML."""
        lines = [
            "[server]",
            f'bind = "127.0.0.1:{self._port}"',
            f"workers = {self._workers}",
            f"runtime_dir = {json.dumps(str(runtime))}",
            "[catalogue]",
            f"paths = [{json.dumps(str(shop.QUERIES))}]",
        ]
        if self._auth:
            lines += ["[auth]", 'mode = "keys"', f"keys_file = {json.dumps(str(keys))}"]
        if self._mcp:
            lines += ["[mcp]", "enabled = true"]
        for server in self._cluster.servers:
            lines += [f"[endpoints.{server.name}]", f"dsn = {json.dumps(shop.dsn(server))}"]
        if self._workers > _SMALLEST_DEFAULT_GROUP:
            for group in ("read", "write"):
                lines += [f"[groups.{group}]", f'access = "{group}"', f"size = {2 * self._workers}"]
        return "\n".join(lines) + "\n"

    def _invitation(self, log: Path, keys: Mapping[str, str]) -> str:
        address = f"http://127.0.0.1:{self._port}"
        curl = f"curl -s -H 'Authorization: Bearer {keys['sales']}'" if keys else "curl -s"
        operator = f"curl -s -H 'Authorization: Bearer {keys['operator']}'" if keys else "curl -s"
        post = f"{curl} -H 'Content-Type: application/json' {address}"
        steps = (
            '{"steps": [{"query": "create_order", "arguments": {"customer_id": 7}},'
            ' {"query": "orders_of_customer", "arguments": {"customer_id": {"$ref": "/0/row/customer_id"}}}]}'
        )
        servers = ", ".join(f"{server.name} on port {server.port}" for server in self._cluster.servers)
        return f"""
Serving {address}
{_told(keys)}
Try these:
  {post}/query/orders_of_customer -d '{{"customer_id": 7, "max_rows": 3}}'
  {post}/query/create_order -d '{{"customer_id": 7, "note": "Ring twice"}}'
  {curl} '{address}/query/products_tagged?tags=garden&tags=wood'
  {post}/transaction -d '{steps}'
{_told_of_agents(address, keys) if self._mcp else ""}
In a browser: {address}/ is how it is now, {address}/docs its queries
All queries: {curl} {address}/queries
How its servers are: {operator} {address}/health
PostgreSQL {self._cluster.version}: {servers} (database {shop.DATABASE}, user {shop.ROLE})
The gateway's log: {log}

Ctrl-C ends it and removes everything."""


def _told(keys: Mapping[str, str]) -> str:
    """What is printed of the keys, between empty lines."""
    if not keys:
        return ""
    lines = [f"  {name.ljust(8)}  {key}  {', '.join(shop.KEYS[name]) or 'no role'}" for name, key in keys.items()]
    return "\n".join(["", "Keys, and their roles:", *lines, ""])


def _told_of_agents(address: str, keys: Mapping[str, str]) -> str:
    """What is printed for whoever has an agent, between empty lines."""
    header = f" --header 'Authorization: Bearer {keys['sales']}'" if keys else ""
    return f"""
For agents (MCP): {address}/mcp
  claude mcp add --transport http shop {address}/mcp{header}
  npx @modelcontextprotocol/inspector --cli {address}/mcp --transport http --method tools/list{header}
"""


@contextmanager
def _interruptible() -> Iterator[None]:
    """Turn the first ending signal into ``_Interrupted`` and pay no attention to later ones: we are ending already.

    SIGHUP stays ignored where it was (nohup).
    """
    before = {what: signal.getsignal(what) for what in _ENDINGS}

    def interrupt(number: int, _: FrameType | None) -> None:
        for what in _ENDINGS:
            signal.signal(what, signal.SIG_IGN)
        raise _Interrupted(number)

    for what in _ENDINGS:
        if not (what is signal.SIGHUP and before[what] is signal.SIG_IGN):
            signal.signal(what, interrupt)
    try:
        yield
    finally:
        for what, handler in before.items():
            signal.signal(what, handler)


def _environment() -> dict[str, str]:
    """The gateway's environment: ours, without what would set the gateway or libpq up otherwise.

    The current folder, where others may have a folder called ``gateway``, stays out of its imports, unless this
    process itself was started as ``python -m gateway``: the package itself may be found through it.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GATEWAY_", "PG")) and name != "DATABASE_URL"
    }
    if Path(sys.argv[0]).name != "__main__.py":
        environment["PYTHONSAFEPATH"] = "1"
    return environment


def _answers(port: int) -> bool:
    """Whether the gateway on this port says it is ready."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1.0)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end(program: subprocess.Popen[bytes]) -> None:
    """Let the gateway finish what it is at; what it does not finish in time ends with the cluster."""
    program.terminate()
    with suppress(subprocess.TimeoutExpired):
        program.wait(_LEAVE_TIMEOUT)


def _print(text: str) -> None:
    """Tell the user; a terminal that is gone is no reason to fail."""
    with suppress(OSError):
        print(text, flush=True)
