"""Cancels what runs in a session, by a connection of its own."""

from time import monotonic

from gateway.errors import BackendUnavailable
from gateway.pool.driver import ConnectError
from gateway.postgres.driver import Driver
from gateway.postgres.session import Session

PATIENCE = 2.0
"""Seconds that it may take."""


def cancel(driver: Driver, endpoint: str, session: Session) -> None:
    """Have the server cancel the statement that runs in ``session``, whose connection is not used again.

    Nothing happens where the statement has ended meanwhile. Raises BackendUnavailable.
    """
    if not session.prepares:
        raise BackendUnavailable("the session is a pooler's, so that the server's process is not known")
    process, deadline = session.get_backend_pid(), monotonic() + PATIENCE
    # The connection is closed after this use: by the time the server obeys, the session must not be somebody else's.
    session.abandon()
    try:
        connection = driver.connect(endpoint, deadline)
    except ConnectError as error:
        raise BackendUnavailable(f"no connection to cancel the statement by: {error.message}") from error
    try:
        connection.ask(f"SELECT pg_catalog.pg_cancel_backend({process})", deadline)
    finally:
        connection.close()
