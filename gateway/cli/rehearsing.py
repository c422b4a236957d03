"""Where test cases run: one connection to the primary, and what it says of the queries."""

from time import monotonic, time
from types import TracebackType
from typing import Any, Self

import msgspec

from gateway.auth.claims import SessionSettings
from gateway.catalogue.query import Catalogue
from gateway.cli.cases import Who
from gateway.errors import Forbidden, GatewayError
from gateway.execution.call import ANONYMOUS, Caller
from gateway.execution.plans import Plans
from gateway.execution.rehearsing import rehearse
from gateway.pool.driver import ConnectError
from gateway.postgres.driver import Driver, addresses
from gateway.postgres.inferring import CannotLearn, TryLater
from gateway.postgres.learning import briefly, learn
from gateway.postgres.objects import Book
from gateway.postgres.session import Session
from gateway.rotation.endpoint import Role
from gateway.settings import Settings

CONNECT_TIMEOUT = 5.0
LEARN_TIMEOUT = 10.0


class StageMissing(Exception):
    """No endpoint is a primary that can be connected to; the message says what each of them is."""


class Stage:
    """``with Stage(...) as stage``: runs calls one after the other, and leaves nothing of them."""

    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._plans = Plans(catalogue)
        self._book = Book()
        self._sent = SessionSettings(settings.auth.settings, settings.auth.database_roles)

    def __enter__(self) -> Self:
        """Connect. Raises StageMissing."""
        self._session = self._connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    def run(self, name: str, arguments: bytes, who: Who | None) -> tuple[str | None, Any]:
        """Run one call: the code of its problem, or None, and its detail or the body of its answer."""
        try:
            return None, msgspec.json.decode(self._body(name, arguments, who))
        except GatewayError as error:
            told = "; ".join(f"{fault.parameter}: {fault.message}" for fault in error.faults)
            return error.code, error.server_message or error.detail or told
        finally:
            if not self._session.settle(monotonic() + CONNECT_TIMEOUT):
                self._session.close()
                self._session = self._connect()

    def _body(self, name: str, arguments: bytes, who: Who | None) -> bytes:
        query = self._catalogue.queries[name]
        caller = self._caller(who)
        if (who is not None or self._settings.auth.is_on) and not caller.has_any(query.roles):
            raise Forbidden(f"{name} is for {', '.join(query.roles)} only")
        self._learn(name)
        settings: Any = {}
        if self._settings.groups[query.group].settings:
            if caller.settings is None:
                raise Forbidden("the caller has no role in the database")
            settings = caller.settings
        return rehearse(
            self._session,
            query,
            self._plans.get(query, caller),
            arguments,
            deadline=monotonic() + query.timeout,
            max_bytes=self._settings.server.max_result_bytes,
            settings=settings,
        )

    def _caller(self, who: Who | None) -> Caller:
        if who is None:
            return msgspec.structs.replace(ANONYMOUS, settings=self._sent.of({}, is_known=False))
        claims = {"sub": who.name, "roles": list(who.roles)} | who.claims
        return Caller(name=f"key:{who.name}", roles=frozenset(who.roles), claims=claims, settings=self._sent.of(claims))

    def _learn(self, name: str) -> None:
        known = self._plans.known(name)
        if known.signature is not None or known.fault is not None:
            return
        try:
            with briefly(self._session, LEARN_TIMEOUT):
                signature = learn(self._session, known.query, self._book, monotonic() + LEARN_TIMEOUT)
            self._plans.learnt(name, signature, at=time())
        except (CannotLearn, TryLater) as error:
            self._plans.failed(name, str(error), waits=False)

    def _connect(self) -> Session:
        driver = Driver(addresses(self._settings.endpoints), read_only=False, time_zone=self._settings.server.time_zone)
        met = []
        for name in self._settings.endpoints:
            try:
                session = driver.connect(name, monotonic() + CONNECT_TIMEOUT)
            except ConnectError as error:
                met.append(f"{name}: {error.message}")
                continue
            if session.role is Role.PRIMARY:
                return session
            met.append(f"{name} is a replica")
            session.close()
        raise StageMissing(f"test cases run on a primary, and there is none: {'; '.join(met)}")
