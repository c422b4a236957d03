"""What goes wrong in a measurement, in words for people."""


class BenchError(Exception):
    """The measurement cannot be had."""


class NotHere(Exception):
    """A contender cannot be run on this machine; the message says what is missing."""
