"""What happens to queries: what the database says of them."""

from gateway.events.event import Event, Level


class QueryRefused(Event, frozen=True, kw_only=True):
    """The server does not accept a query of the catalogue, so that it cannot be served."""

    name = "query_refused"
    query: str
    file: str
    line: int
    fault: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.query} cannot be served: {self.fault}"


class CatalogueChanged(Event, frozen=True, kw_only=True):
    """The database is not as it was when the queries were learnt: somebody has migrated it."""

    name = "catalogue_changed"
    severity = Level.INFO
    parts: int
    """Tables, types, functions and so on that have changed."""
    queries: int
    """Queries that depend on them, and are learnt anew."""

    def __str__(self) -> str:
        return f"the database has changed: queries learnt anew: {self.queries}, objects concerned: {self.parts}"


class LearningInterrupted(Event, frozen=True, kw_only=True):
    """The connection was lost while the types of the queries were being learnt; it is tried again."""

    name = "learning_interrupted"
    detail: str

    def __str__(self) -> str:
        return f"learning the queries' types was interrupted: {self.detail}"


class LearningNotShared(Event, frozen=True, kw_only=True):
    """What this worker learns cannot be written for the other workers of the node."""

    name = "learning_not_shared"
    detail: str

    def __str__(self) -> str:
        return f"what the servers say of the queries is no longer shared between workers: {self.detail}"
