"""Who is behind what a client shows, by all the ways that ``[auth] mode`` names."""

from pathlib import Path
from typing import Any

from gateway.auth.claims import SessionSettings
from gateway.auth.key_ring import LOOK_EVERY, KeyRing
from gateway.auth.keys import PREFIX
from gateway.errors import Unauthenticated
from gateway.events import Observer
from gateway.execution.call import Caller
from gateway.node.tasks import Task, every
from gateway.settings import AuthSettings


class Identities:
    """Verifies keys, tokens and certificates; what they are verified against is kept up to date beside requests."""

    def __init__(self, auth: AuthSettings, *, observe: Observer) -> None:
        """Begin with what is in files now."""
        sent = SessionSettings(auth.settings, auth.database_roles)
        self._tasks: list[Task] = []
        self._keys: KeyRing | None = None
        if "keys" in auth.mode:
            self._keys = KeyRing(Path(auth.keys_file), sent=sent, observe=observe)
            self._tasks.append(Task("the reading of API keys", every(LOOK_EVERY, self._keys.look), observe=observe))
        self._stranger: Caller | None = None
        if auth.allow_anonymous:
            self._stranger = Caller(roles=frozenset(auth.anonymous_roles), settings=sent.of({}, is_known=False))

    def start(self) -> None:
        """Begin to keep up to date."""
        for task in self._tasks:
            task.start()

    def close(self) -> None:
        """End that."""
        for task in self._tasks:
            task.close()

    def of_bearer(self, credentials: str) -> Caller:
        """Return who shows this key or token; raises Unauthenticated."""
        if self._keys is not None and credentials.startswith(PREFIX):
            return self._keys.caller_of(credentials)
        raise Unauthenticated

    @property
    def of_strangers(self) -> Caller:
        """Who calls without any credentials; raises Unauthenticated where they must be shown."""
        if self._stranger is None:
            raise Unauthenticated
        return self._stranger

    def status(self) -> dict[str, Any]:
        """What ``/health`` says of it."""
        if self._keys is None:
            return {}
        return {"keys": {"count": len(self._keys), "fault": self._keys.fault}}
