"""How long work on one request lets others have their turn."""

from time import monotonic

from gateway.waiting import TURN, Client, ThreadWaits, Turns


class Recorder(ThreadWaits):
    """Notes when it was asked to pause."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def pause(self, seconds: float, client: Client | None = None) -> None:
        super().pause(seconds, client)
        self.pauses.append(monotonic())


def test_long_work_pauses_once_a_turn_however_often_it_could() -> None:
    waits = Recorder()
    turns = Turns(waits)
    began = monotonic()
    while len(waits.pauses) < 5:
        turns()
        assert monotonic() < began + 30
    assert all(later - earlier >= TURN for earlier, later in zip(waits.pauses, waits.pauses[1:], strict=False))
