"""The master process: gunicorn's arbiter, but for the sockets, which it opens and closes by our rules.

gunicorn creates every unix socket with one umask, removes the file of a server that lives, and knows no listener for
operators.
"""

import os
import shutil
import socket
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.sock import TCP6Socket, TCPSocket, UnixSocket
from gunicorn.util import parse_address

from gateway.server.listening import sentence_of, unix_fault
from gateway.settings import ServerSettings, inherits_sockets

ADMIN = "admin.sock"
"""The operators' socket in the runtime directory, where ``[server] admin_bind`` names no other."""
ADMIN_MODE = 0o600


def admin_address(server: ServerSettings, directory: Path) -> str:
    """Where operators are listened to, in the form of ``[server] bind``."""
    return server.admin_bind or f"unix:{directory / ADMIN}"


class Master(Arbiter):  # type: ignore[misc] # gunicorn has no types
    """Runs the workers of an ``application.Application``."""

    def __init__(self, application: Any) -> None:
        super().__init__(application)
        self._listeners = Listeners(self.cfg, self.log)

    def start(self) -> None:
        """Listen, then start as gunicorn does. Raises RuntimeError where an address cannot be listened on."""
        settings = self.app.settings.server
        try:
            if not self.cfg.reuse_port and not inherits_sockets():
                mode = int(settings.socket_mode, 8)
                self.LISTENERS = [
                    self._listeners.open(bind, mode=mode, group=settings.socket_group) for bind in self.cfg.bind
                ]
            self.app.admin = self._listeners.open(self.app.admin_address, mode=ADMIN_MODE)
        except ListeningFailed as error:
            self._listeners.close()
            raise RuntimeError(str(error)) from None
        super().start()
        self.log.info("Listening to operators at: %s", self.app.admin_address)
        self.app.register(self.log)

    def stop(self, graceful: bool = True) -> None:
        """Close the listeners, so that nobody new comes, and end the workers."""
        self._listeners.close()
        self.LISTENERS = []
        super().stop(graceful)

    def handle_usr2(self) -> None:
        """SIGUSR2: refused, for a runtime directory has one master. A reload is SIGHUP."""
        self.log.warning("SIGUSR2 is ignored: a second master cannot share the runtime directory; use SIGHUP")


class ListeningFailed(Exception):
    """An address cannot be listened on; the message names it and says why."""


class Listeners:
    """Makes listening sockets as gunicorn knows them, and removes the files of those that are unix sockets."""

    def __init__(self, cfg: Any, log: Any) -> None:
        """``cfg``, ``log``: gunicorn's."""
        # Nothing here is shared by port: newer kernels refuse SO_REUSEPORT for unix sockets.
        self._cfg = SimpleNamespace(reuse_port=False, backlog=cfg.backlog, is_ssl=cfg.is_ssl)
        self._log = log
        self._open: list[Any] = []
        self._files: dict[Path, tuple[int, int]] = {}
        """Paths of unix sockets, with device and inode of the files that were made there."""

    def open(self, bind: str, *, mode: int, group: str = "") -> Any:
        """Listen on an address in the form of ``[server] bind``; ``mode`` and ``group`` are a unix socket's.

        Raises ListeningFailed.
        """
        address = parse_address(bind)
        try:
            if isinstance(address, str):
                listener = self._open_unix(Path(address), mode, group)
            elif ":" in address[0]:
                listener = TCP6Socket(address, self._cfg, self._log)
            else:
                listener = TCPSocket(address, self._cfg, self._log)
        except OSError as error:
            raise ListeningFailed(f"{bind}: {sentence_of(error)}") from None
        self._open.append(listener)
        return listener

    def close(self) -> None:
        """Close all of them. A file that another server has put in the place of ours stays."""
        for listener in self._open:
            listener.close()
        self._open.clear()
        for path, made in self._files.items():
            with suppress(OSError):
                if _identity(path) == made:
                    path.unlink()
        self._files.clear()

    def _open_unix(self, path: Path, mode: int, group: str) -> Any:
        """Bind a unix socket whose file has its mode and group before anybody can connect.

        Until listen(2) every connect(2) is refused, so the group may be changed after the file is there.
        """
        if message := unix_fault(str(path)):
            raise ListeningFailed(f"unix:{path}: {message}")
        path.unlink(missing_ok=True)  # a socket on which nobody listens
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            umask = os.umask(0o777 & ~mode)
            try:
                sock.bind(str(path))
            finally:
                os.umask(umask)
            self._files[path] = _identity(path)
            try:
                if group:
                    shutil.chown(path, group=int(group) if group.isdecimal() else group)
            except (OSError, LookupError) as error:
                raise ListeningFailed(f"unix:{path}: cannot be given to the group {group}: {error}") from None
            return UnixSocket(str(path), self._cfg, self._log, fd=sock.detach())


def _identity(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino
