"""Which keys are in force in a worker."""

import os
from pathlib import Path

import pytest

from gateway.auth import keys, keys_file
from gateway.auth.claims import SessionSettings
from gateway.auth.key_ring import KeyRing
from gateway.auth.keys import Key
from gateway.errors import Unauthenticated
from gateway.events import Event, KeysFileRefused


class Rig:
    def __init__(self, folder: Path) -> None:
        self.file = folder / "keys.toml"
        self.now = 1000.0
        self.seen: list[Event] = []
        self.text = ""
        self.held: list[Key] = []

    def add(self, **more: object) -> str:
        made = keys.make()
        entry = {"id": made[4:12], "sha256": keys.digest_of(made).hex(), "name": "orders", **more}
        self.text = keys_file.added(self.text, Key(**entry))  # type: ignore[arg-type]
        self.write(self.text)
        return made

    def write(self, text: str) -> None:
        self.file.write_text(text)
        os.utime(self.file, ns=(len(text), len(text)))

    def ring(self, sent: SessionSettings | None = None) -> KeyRing:
        return KeyRing(self.file, sent=sent or SessionSettings({}), observe=self.seen.append, clock=lambda: self.now)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def is_known(ring: KeyRing, key: str) -> bool:
    try:
        ring.caller_of(key)
    except Unauthenticated:
        return False
    return True


def test_a_key_is_its_callers_with_roles_and_claims(rig: Rig) -> None:
    made = rig.add(roles=("sales",), parameters={"tenant_id": 7})
    caller = rig.ring(SessionSettings({"app.tenant": "claim:tenant_id"})).caller_of(made)
    assert (caller.name, caller.roles) == ("key:orders", frozenset({"sales"}))
    assert caller.claims == {"sub": "orders", "roles": ["sales"], "tenant_id": 7}
    assert caller.settings == {"app.tenant": "7"}


def test_all_that_is_no_key_in_force_is_refused_in_the_same_words(rig: Rig) -> None:
    made, gone = rig.add(), rig.add(expires=999.0)
    ring = rig.ring()
    said = set()
    for shown in (
        "",
        "gwk_",
        made[:-1],
        made + "x",
        made[:-1] + "~",
        keys.make(),
        gone,
        made[:12] + "x" * 51,
        "\ud800",
    ):
        with pytest.raises(Unauthenticated) as refused:
            ring.caller_of(shown)
        said.add(refused.value.detail)
    assert len(said) == 1
    assert is_known(ring, made)


def test_a_key_expires_while_it_is_held(rig: Rig) -> None:
    made = rig.add(expires=1001.0)
    ring = rig.ring()
    assert is_known(ring, made)
    rig.now = 1001.0
    assert not is_known(ring, made)


def test_when_a_key_was_last_used_is_known_through_changes_of_the_file(rig: Rig) -> None:
    made, other = rig.add(), rig.add(expires=2000.0)
    ring = rig.ring()
    assert ring.last_used() == {}
    for rig.now in (1001.0, 1002.0):
        assert is_known(ring, made)
    assert not is_known(ring, made[:-1] + "~")
    label = (f"orders:{made[4:12]}",)
    assert ring.last_used() == {label: 1002.0}
    rig.add()
    ring.look()
    assert ring.last_used() == {label: 1002.0}
    assert ring.expiring() == {(f"orders:{other[4:12]}",): 2000.0}


def test_a_changed_file_is_taken_over_at_the_next_look(rig: Rig) -> None:
    first = rig.add()
    ring = rig.ring()
    second = rig.add()
    assert not is_known(ring, second)
    ring.look()
    assert is_known(ring, first)
    assert is_known(ring, second)
    rig.write(keys_file.removed(rig.text, 0))
    ring.look()
    assert not is_known(ring, first)
    assert is_known(ring, second)


@pytest.mark.parametrize("broken", ["[[key]\n", "[[key]]\nid = 3\n", None], ids=["no TOML", "a fault", "no file"])
def test_a_broken_file_changes_nothing_and_is_told_once(rig: Rig, broken: str | None) -> None:
    made = rig.add()
    ring = rig.ring()
    if broken is None:
        rig.file.unlink()
    else:
        rig.write(broken)
    for _ in range(3):
        ring.look()
    assert is_known(ring, made)
    assert [type(event) for event in rig.seen] == [KeysFileRefused]
    assert ring.fault is not None
    rig.write(rig.text)
    ring.look()
    assert ring.fault is None


def test_keys_that_are_read_later_are_in_force_then(rig: Rig) -> None:
    ring = rig.ring()
    assert ring.fault is not None
    made = rig.add()
    ring.look()
    assert is_known(ring, made)
    assert len(ring) == 1
