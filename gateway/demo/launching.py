"""Start programs that cannot outlive this process, in directories that cannot either."""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gateway.demo import janitor, leash
from gateway.demo.accounts import Account
from gateway.demo.failures import ClusterError
from gateway.demo.janitor import Duty

_INTERPRETER = (sys.executable, "-I", "-S")
_JANITOR_PATIENCE = 30.0  # seconds; longer than the janitor's own waits together
_TAIL = 30  # lines of a log worth showing


class Launcher:
    """Owns what it starts and makes: all of it ends with ``close()``, or with this process, however that ends.

    Two mechanisms, each of which is enough: a janitor process cleans up when its pipe to us closes (``janitor``),
    and the kernel signals each program when we die (``leash``).

    Programs run in sessions of their own: a Ctrl-C on the terminal is for us alone.
    """

    def __init__(self) -> None:
        # NOTE: For the kernel the parent is a thread. Programs are started by one that lives as long as we do, or
        # a server started from a short-lived thread would be signalled when that thread ends.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="launcher")
        self._programs: list[subprocess.Popen[bytes]] = []
        self._directories: list[Path] = []
        self._duties: list[Duty] = []
        self._janitor = self._thread.submit(self._start_janitor).result()

    def make_directory(self, place: Path, *, account: Account | None = None) -> Path:
        """A fresh directory below ``place``, the account's own (else ours) and nobody else's to look into.

        NOTE: The janitor is told first, so that there is no moment in which it would stay behind. The name is
        random and the directory must not exist: what is removed later is ours.
        """
        directory = place / f"gateway-{secrets.token_hex(8)}"
        self._directories.append(directory)
        self._tell("directory", directory)
        directory.mkdir(mode=0o700)
        if account is not None:
            os.chown(directory, account.uid, account.gid)
        return directory

    def launch(
        self,
        command: Sequence[str],
        *,
        log: Path,
        cwd: Path,
        environment: Mapping[str, str],
        account: Account | None = None,
        ending: signal.Signals = signal.SIGTERM,
    ) -> subprocess.Popen[bytes]:
        """Start a program as the account (else as ourselves); its output goes to the end of ``log``.

        ``ending`` is the signal that ends it when we are gone; two seconds later it and its descendants are killed.
        """
        user = f"{account.uid}:{account.gid}" if account else "-"
        argv = [*_INTERPRETER, str(leash.__file__), str(os.getpid()), str(int(ending)), user, *command]

        def start() -> subprocess.Popen[bytes]:
            with log.open("ab") as output:
                program = subprocess.Popen(  # noqa: S603 -- callers pass commands of ours
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=cwd,
                    env=environment,
                    start_new_session=True,
                )
            self._programs.append(program)
            process = janitor.identify(program.pid)
            if process is not None:
                self._duties.append(Duty(process, ending))
                self._tell("process", process.pid, process.started, int(ending))
            return program

        return self._thread.submit(start).result()

    def close(self) -> None:
        """End all programs and remove all directories; ClusterError when something cannot be removed."""
        self._thread.shutdown()  # a launch under way is finished: nothing is started behind the janitor's back
        if self._janitor.stdin is not None:
            self._janitor.stdin.close()
        try:
            clean = self._janitor.wait(timeout=_JANITOR_PATIENCE) == 0
        except subprocess.TimeoutExpired:
            self._janitor.kill()
            self._janitor.wait()
            clean = False
        clean = clean or janitor.clean(self._directories, self._duties)
        for program in self._programs:
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(timeout=1)
        if not clean:
            raise ClusterError(f"cannot remove {', '.join(str(path) for path in self._directories if path.exists())}")

    def _start_janitor(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 -- our own script
            [*_INTERPRETER, str(janitor.__file__), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            bufsize=0,
            start_new_session=True,
        )

    def _tell(self, *words: object) -> None:
        """Write one line to the janitor; without one (killed by somebody) ``close()`` cleans up itself."""
        if self._janitor.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._janitor.stdin.write("\t".join(map(str, words)).encode() + b"\n")


def tail(log: Path) -> str:
    """The last lines of a log, for a message."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL:]) if log.exists() else ""
