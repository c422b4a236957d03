"""Who is behind what a client shows, by all the ways that ``[auth] mode`` names."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gateway.auth.certificates import Certificates
from gateway.auth.claims import SessionSettings
from gateway.auth.key_ring import LOOK_EVERY, KeyRing
from gateway.auth.keys import PREFIX
from gateway.errors import Unauthenticated
from gateway.events import Observer
from gateway.execution.call import Caller
from gateway.metrics import KEY_EXPIRES, KEY_SET_AGE, KEY_USED, Metrics
from gateway.node.tasks import Task, every
from gateway.settings import AuthSettings

if TYPE_CHECKING:
    from gateway.auth.key_sets import FetchedKeySet, FileKeySet
    from gateway.auth.tokens import Tokens


class _UpToDate(Protocol):
    """Something that is kept up to date beside requests."""

    def start(self) -> object:
        """Begin."""

    def close(self) -> object:
        """End."""


class Identities:
    """Verifies keys, tokens and certificates; what they are verified against is kept up to date beside requests."""

    def __init__(self, auth: AuthSettings, *, directory: Path | None, observe: Observer) -> None:
        """Begin with what is in files now. ``directory``: the node's; None: nothing is shared."""
        sent = SessionSettings(auth.settings, auth.database_roles)
        self._kept: list[_UpToDate] = []
        self._keys: KeyRing | None = None
        self._tokens: Tokens | None = None
        self._key_set: FetchedKeySet | FileKeySet | None = None
        self._certificates: Certificates | None = None
        if "keys" in auth.mode:
            self._keys = KeyRing(Path(auth.keys_file), sent=sent, observe=observe)
            self._kept.append(Task("the reading of API keys", every(LOOK_EVERY, self._keys.look), observe=observe))
        if "jwt" in auth.mode:
            self._take_tokens(auth, sent, directory, observe)
        if "certificates" in auth.mode:
            self._certificates = Certificates(auth.certificates, sent=sent)
        self._stranger: Caller | None = None
        if auth.allow_anonymous:
            self._stranger = Caller(roles=frozenset(auth.anonymous_roles), settings=sent.of({}, is_known=False))

    def _take_tokens(
        self, auth: AuthSettings, sent: SessionSettings, directory: Path | None, observe: Observer
    ) -> None:
        # Imported where it is asked for: PyJWT and cryptography are an extra, and take 8 MB of every worker.
        from gateway.auth.key_set import KeySet
        from gateway.auth.key_sets import FetchedKeySet, FileKeySet
        from gateway.auth.tokens import Tokens

        if auth.jwt_secret_file:
            secret = KeySet.of_secret(Path(auth.jwt_secret_file).read_bytes().rstrip(b"\r\n"), auth.algorithms)
            self._tokens = Tokens(auth, sent=sent, key_set=lambda: secret, on_unknown=lambda: None)
            return
        if auth.jwks_file:
            self._key_set = FileKeySet(Path(auth.jwks_file), auth.algorithms, observe=observe)
        else:
            self._key_set = FetchedKeySet(auth.jwks_url, auth.algorithms, directory, observe=observe)
        self._kept.append(self._key_set)
        self._tokens = Tokens(auth, sent=sent, key_set=self._key_set.current, on_unknown=self._key_set.want)

    def start(self) -> None:
        """Begin to keep up to date."""
        for kept in self._kept:
            kept.start()

    def close(self) -> None:
        """End that."""
        for kept in self._kept:
            kept.close()

    def of_bearer(self) -> Callable[[str], Caller]:
        """Return what tells who shows a key or token, and raises Unauthenticated.

        PERF: where there is one way, it is asked itself.
        """
        keys, tokens = self._keys, self._tokens
        if tokens is None:
            return _refused if keys is None else keys.caller_of
        if keys is None:
            return tokens.caller_of
        of_key, of_token = keys.caller_of, tokens.caller_of
        return lambda credentials: (of_key if credentials.startswith(PREFIX) else of_token)(credentials)

    def of_names(self, names: Sequence[str]) -> Caller:
        """Return who has a certificate with these names; raises Unauthenticated."""
        if self._certificates is None:
            return self.of_strangers
        return self._certificates.caller_of(names)

    @property
    def of_strangers(self) -> Caller:
        """Who calls without any credentials; raises Unauthenticated where they must be shown."""
        if self._stranger is None:
            raise Unauthenticated
        return self._stranger

    def add_metrics(self, metrics: Metrics) -> None:
        """Show how old the key set is, and what becomes of keys."""
        if self._keys is not None:
            metrics.gauge(KEY_USED, self._keys.last_used)
            metrics.gauge(KEY_EXPIRES, self._keys.expiring)
        if (key_set := self._key_set) is not None:
            metrics.gauge(KEY_SET_AGE, lambda: {} if key_set.age is None else {(): key_set.age})

    def status(self) -> dict[str, Any]:
        """What ``/health`` says of it."""
        told: dict[str, Any] = {}
        if self._keys is not None:
            told["keys"] = {"count": len(self._keys), "fault": self._keys.fault}
        if self._key_set is not None:
            in_force, age = self._key_set.current(), self._key_set.age
            told["key_set"] = {
                "count": 0 if in_force is None else len(in_force),
                "age_s": None if age is None else round(age),
                "fault": self._key_set.fault,
            }
        return told


def _refused(_credentials: str) -> Caller:
    raise Unauthenticated
