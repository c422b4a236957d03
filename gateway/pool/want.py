"""Which endpoints a request will do with."""

import msgspec


class Want(msgspec.Struct, frozen=True):
    """What a request asks of the endpoint it is given.

    NOTE: a request without wishes passes ``ANY`` itself, not its equal: that it wants nothing is seen by identity.
    """

    only: frozenset[str] | None = None
    """Nothing but these will do, those in reserve included; None: whatever serves."""
    avoid: frozenset[str] = frozenset()
    """Rather wait for another than use these; where no other may answer they are as good as any."""

    answered_since: float = 0.0
    """Nothing but a connection that has answered after this moment (``time.monotonic``): others are pinged first."""

    def allows(self, name: str) -> bool:
        """Whether an endpoint of this name would do, if only as a last resort."""
        return self.only is None or name in self.only


ANY = Want()
"""Whatever serves."""
