"""Time that a test moves on by hand."""


class Clock:
    """A clock, and a sleep that takes no time but on this clock."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
