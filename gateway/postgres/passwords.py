"""Passwords that a command gives, for as long as they are valid: tokens of a cloud's IAM, leases of a vault.

They are asked for where a connection is opened, which is beside requests. One that will soon be too old is replaced in
the background; only the first connect, and one after the server has refused a password, waits for the command.
"""

import subprocess
import threading
from collections.abc import Sequence
from time import monotonic

RENEW_AT = 0.8
"""Share of its time after which a password is replaced."""
COMMAND_TIMEOUT = 30.0
"""Seconds for the command, whoever waits for it."""
REST = 1.0
"""Seconds for which a command is not run again that has printed a password which the server had refused before."""
LONGEST = 65_536


class CommandFailed(OSError):
    """The command gave no password; the message says why, and shows nothing of what it printed."""


class _Password:
    """The password of one command."""

    def __init__(self, command: Sequence[str], ttl: float) -> None:
        self._command = command
        self._ttl = ttl
        self._lock = threading.Lock()
        """Held while the command runs."""
        self._value: str | None = None
        self._since = 0.0
        self._is_renewing = False
        self._refused: str | None = None
        """What a server refused last."""
        self._refused_at = 0.0
        self._rests_until = 0.0

    def get(self, deadline: float) -> str:
        value, age = self._value, monotonic() - self._since
        if value is not None and age < self._ttl:
            if age >= self._ttl * RENEW_AT and not self._is_renewing:
                self._is_renewing = True
                threading.Thread(target=self._renew, name="gateway-password", daemon=True).start()
            return value
        if not self._lock.acquire(timeout=max(0.0, deadline - monotonic())):
            raise CommandFailed("password_command has not answered in time")
        try:
            value = self._value
            if value is None or monotonic() - self._since >= self._ttl:
                value = self._run(max(0.1, min(COMMAND_TIMEOUT, deadline - monotonic())))
            return value
        finally:
            self._lock.release()

    def refused(self, value: str) -> bool:
        if value != self._value:
            return True  # it has been replaced since, or is about to be, after another connect was refused
        if monotonic() < self._rests_until:
            return False
        self._value, self._refused, self._refused_at = None, value, monotonic()
        return True

    def _renew(self) -> None:
        try:
            with self._lock:
                self._run(COMMAND_TIMEOUT)
        except CommandFailed:
            pass  # the one there is holds until its time is over; then whoever connects says why there is none
        finally:
            self._is_renewing = False

    def _run(self, timeout: float) -> str:
        began = monotonic()
        try:
            done = subprocess.run(  # noqa: S603 -- the operator's own command, without a shell
                self._command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired:
            raise CommandFailed(f"password_command has not ended within {timeout:.3g} s") from None
        except OSError as error:
            raise CommandFailed(f"password_command cannot be started: {error.strerror}") from None
        if done.returncode:
            raise CommandFailed(f"password_command has ended with status {done.returncode}")
        try:
            value = done.stdout[: LONGEST + 1].decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise CommandFailed("password_command has printed something that is not UTF-8 text") from None
        if not value or len(value) > LONGEST or "\0" in value:
            raise CommandFailed("password_command has printed no password")
        if value == self._refused:
            if began < self._refused_at:
                return value  # not kept: it was printed for a run before the refusal, and may have been replaced since
            self._rests_until = monotonic() + REST
        self._value, self._since = value, began
        return value


class Passwords:
    """The passwords of all commands; one object for all drivers of a process, so that each runs once."""

    def __init__(self) -> None:
        self._known: dict[tuple[Sequence[str], float], _Password] = {}

    def get(self, command: Sequence[str], ttl: float, deadline: float) -> str:
        """Return what the command gave within the last ``ttl`` seconds, or run it. Raises CommandFailed."""
        return self._of(command, ttl).get(deadline)

    def refused(self, command: Sequence[str], ttl: float, value: str) -> bool:
        """Have it run again for the next connect, as a server has refused this password.

        False: it has printed the same one again a moment ago, and there is nothing else to try.
        """
        return self._of(command, ttl).refused(value)

    def _of(self, command: Sequence[str], ttl: float) -> _Password:
        return self._known.setdefault((command, ttl), _Password(command, ttl))
