"""What happens to those who call, and to what they are known by."""

from gateway.events.event import Event, Level


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
