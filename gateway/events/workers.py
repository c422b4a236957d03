"""What happens to the node, its workers and their files."""

from gateway.events.event import Event, Level


class BugFound(Event, frozen=True, kw_only=True):
    """An exception that nobody expected. What it interrupted goes on with the next request or the next round."""

    name = "bug_found"
    severity = Level.ERROR
    where: str
    """What was interrupted, as a phrase: ``the probe of endpoint replica1``."""
    error: BaseException
    request_id: str | None = None

    def __str__(self) -> str:
        of = f"request {self.request_id}: " if self.request_id else ""
        return f"{of}a bug of the gateway interrupted {self.where}: {type(self.error).__name__}"


class NodeNotShared(Event, frozen=True, kw_only=True):
    """A file in the runtime directory cannot be used: this worker goes on without the part of the node it holds."""

    name = "node_not_shared"
    what: str
    """What is not shared, as a sentence without its end: ``connections of group read are not counted``."""
    detail: str

    def __str__(self) -> str:
        return f"{self.what}: {self.detail}"


class Reloaded(Event, frozen=True, kw_only=True):
    """A new generation of workers is in charge."""

    name = "reloaded"
    severity = Level.INFO
    hash: str
    """Of the catalogue it serves."""
    queries: int

    def __str__(self) -> str:
        return f"reloaded: {self.queries} queries, catalogue {self.hash}"


class ReloadRefused(Event, frozen=True, kw_only=True):
    """A reload was given up; what was served before is served on."""

    name = "reload_refused"
    severity = Level.ERROR
    faults: tuple[str, ...]

    def __str__(self) -> str:
        return "not reloaded, what was served before is served on:\n" + "\n".join(self.faults)


class ReloadWarned(Event, frozen=True, kw_only=True):
    """Something that is served since a reload is probably not meant."""

    name = "reload_warned"
    warning: str

    def __str__(self) -> str:
        return self.warning


class NotReady(Event, frozen=True, kw_only=True):
    """A worker that a reload has started is not ready so far, and the old ones go on serving."""

    name = "not_ready"
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"a worker that the reload has started is not ready: {'; '.join(self.reasons)}"


class KeysNotSwept(Event, frozen=True, kw_only=True):
    """Expired idempotency keys could not be deleted; it is tried again."""

    name = "keys_not_swept"
    detail: str

    def __str__(self) -> str:
        return f"expired idempotency keys could not be deleted: {self.detail}"


class LoopHeld(Event, frozen=True, kw_only=True):
    """The worker's event loop did not turn for some time."""

    name = "loop_held"
    ms: int
    stack: str
    """Of the thread that held it."""

    def __str__(self) -> str:
        return f"the event loop did not turn for {self.ms} ms, held by:\n{self.stack}"


class WorkerEnds(Event, frozen=True, kw_only=True):
    """This worker ends by itself: it served as many requests as it may, or its master is gone."""

    name = "worker_ends"
    severity = Level.INFO
    reason: str

    def __str__(self) -> str:
        return f"this worker ends: {self.reason}"


class CannotAccept(Event, frozen=True, kw_only=True):
    """Connections of clients cannot be accepted."""

    name = "cannot_accept"
    severity = Level.ERROR
    detail: str

    def __str__(self) -> str:
        return f"cannot accept connections: {self.detail}"


class CertificateTaken(Event, frozen=True, kw_only=True):
    """The files of the certificate for clients have changed, and are in use."""

    name = "certificate_taken"
    severity = Level.INFO
    file: str

    def __str__(self) -> str:
        return f"new connections are shown the certificate that is in {self.file} now"


class CertificateNotTaken(Event, frozen=True, kw_only=True):
    """The files of the certificate for clients have changed, and cannot be used: the last good ones stay in use."""

    name = "certificate_not_taken"
    severity = Level.ERROR
    file: str
    detail: str

    def __str__(self) -> str:
        return f"the certificate in {self.file} cannot be used, the one before stays: {self.detail}"


class KeysFileRefused(Event, frozen=True, kw_only=True):
    """The file of API keys has changed and cannot be used; the keys read before stay in force."""

    name = "keys_file_refused"
    severity = Level.ERROR
    faults: int
    first: str
    """The first of them."""

    def __str__(self) -> str:
        more = f", and {self.faults - 1} more faults" if self.faults > 1 else ""
        return f"API keys are not taken over, those read before stay in force: {self.first}{more}"


class KeySetNotFetched(Event, frozen=True, kw_only=True):
    """The keys by which tokens are verified could not be fetched or read; the last good ones stay in force."""

    name = "key_set_not_fetched"
    detail: str

    def __str__(self) -> str:
        return f"the key set for tokens is not taken over, the last good one stays in force: {self.detail}"


class ServerSaid(Event, frozen=True, kw_only=True):
    """A line of gunicorn's log: its master starts, reloads or ends, or starts and ends a worker."""

    name = "server_said"
    is_limited = False
    is_text = True
    text: str
    severity_of_line: Level = Level.INFO

    @property
    def level(self) -> Level:
        """As gunicorn has it."""
        return self.severity_of_line

    def __str__(self) -> str:
        return self.text


class ErrorOutput(Event, frozen=True, kw_only=True):
    """Text that something wrote to standard error past the log: Python itself, or a library."""

    name = "error_output"
    is_limited = False
    is_text = True
    text: str

    def __str__(self) -> str:
        return self.text


class LinesOmitted(Event, frozen=True, kw_only=True):
    """Lines of the log were left out: too many of one kind, or nobody read them in time."""

    name = "lines_omitted"
    is_limited = False
    count: int
    kind: str = ""
    """Name of the events; empty: lines of any kind, which were not read in time."""

    def __str__(self) -> str:
        if self.kind:
            return f"{self.count} more events of the kind {self.kind} were not logged"
        return f"{self.count} lines of the log were dropped: they were not read in time"


class LogLevelChanged(Event, frozen=True, kw_only=True):
    """An operator has changed what is logged."""

    name = "log_level_changed"
    severity = Level.INFO
    is_limited = False
    to: str
    """Lower case: ``debug``."""

    def __str__(self) -> str:
        return f"what is less urgent than {self.to} is not logged"
