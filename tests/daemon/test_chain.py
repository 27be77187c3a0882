"""The events are a hash chain: whatever is done to one, it is seen."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from adapterd.daemon.caller import act_for
from adapterd.daemon.chain import BEGINNING, Entry, link, verify
from adapterd.daemon.ledger import Ledger
from hypothesis import given
from hypothesis import strategies as st

TEXT = st.text(max_size=20)
ENTRIES = st.lists(
    st.builds(
        Entry,
        id=st.integers(1, 2**63 - 1),
        micros=st.integers(0, 2**52),
        actor=TEXT,
        kind=TEXT,
        task=TEXT,
        drop=st.integers(0, 2**63 - 1),
        version=st.integers(0, 2**63 - 1),
        message=TEXT,
        details=st.dictionaries(TEXT, TEXT | st.integers() | st.floats(allow_nan=False, allow_infinity=False)),
    ),
    min_size=1,
    max_size=8,
)


def chained(entries: list[Entry]) -> list[Entry]:
    before, found = BEGINNING, []
    for entry in entries:
        before = link(before, entry)
        found.append(replace(entry, hash=before))
    return found


@given(ENTRIES)
def test_what_was_chained_is_sound(entries: list[Entry]) -> None:
    found = verify(chained(entries))
    assert found.sound
    assert (found.entries, found.unchained) == (len(entries), 0)


@given(ENTRIES, st.data())
def test_a_change_is_found_where_it_is(entries: list[Entry], data: st.DataObject) -> None:
    log = chained(entries)
    at = data.draw(st.integers(0, len(log) - 1))
    changed = data.draw(
        st.sampled_from(
            [
                replace(log[at], actor=log[at].actor + "x"),
                replace(log[at], message=log[at].message + "x"),
                replace(log[at], micros=log[at].micros + 1),
                replace(log[at], details={**log[at].details, "more": 1}),
                replace(log[at], version=log[at].version ^ 1),
            ]
        )
    )
    found = verify([*log[:at], changed, *log[at + 1 :]])
    assert not found.sound
    assert found.broken_at == changed.id
    assert found.entries == at


@given(ENTRIES, st.data())
def test_what_is_taken_out_or_swapped_is_missed(entries: list[Entry], data: st.DataObject) -> None:
    log = chained([replace(entry, id=number) for number, entry in enumerate(entries, 1)])
    if len(log) > 1:
        at = data.draw(st.integers(0, len(log) - 2))
        assert not verify([*log[:at], *log[at + 1 :]]).sound
        assert not verify([*log[:at], log[at + 1], log[at], *log[at + 2 :]]).sound


def test_a_log_cut_off_at_its_end_is_seen_by_a_hash_that_was_noted() -> None:
    log = chained([Entry(number, 0, "ada", "alias.moved", "mood", 0, number, "", {}) for number in (1, 2, 3)])
    assert verify(log[:2]).sound
    assert not verify(log[:2], noted=log[2].hash).sound
    assert verify(log, noted=log[1].hash[:12]).sound


def test_events_of_a_release_without_a_chain_are_counted_and_no_later_gap_passes_for_one() -> None:
    old = Entry(1, 0, "", "drop.claimed", "mood", 1, 0, "", {})
    log = [replace(entry, id=entry.id + 1) for entry in [old]]
    new = chained([Entry(3, 0, "ada", "alias.moved", "mood", 0, 1, "", {})])
    found = verify([old, *log, *new])
    assert (found.sound, found.unchained, found.entries) == (True, 2, 1)
    assert not verify([*new, old]).sound


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite3", clock=lambda: 1_795_700_000.123456789)


def test_the_ledgers_events_are_chained_and_say_who_acted(ledger: Ledger) -> None:
    ledger.events.emit("daemon.started", "it serves", details={"pid": 7, "share": 0.1})
    act_for("ada")
    try:
        with ledger.transaction():
            ledger.events.emit("version.imported", "é\udcff", task="mood", version=1)
            ledger.events.emit("alias.moved", "now", task="mood", version=1)
    finally:
        act_for("daemon")
    rows = ledger.events.after(0)
    assert [row.actor for row in rows] == ["daemon", "ada", "ada"]
    assert verify(row.entry() for row in rows).sound


def test_events_can_be_neither_changed_nor_removed_through_sqlite(ledger: Ledger, tmp_path: Path) -> None:
    ledger.events.emit("daemon.started", "it serves")
    connection = sqlite3.connect(tmp_path / "ledger.sqlite3")
    for statement in ("UPDATE events SET message = 'other'", "DELETE FROM events"):
        with pytest.raises(sqlite3.IntegrityError, match="only added"):
            connection.execute(statement)
    connection.close()


def test_who_takes_the_triggers_away_is_found_out_by_the_chain(ledger: Ledger, tmp_path: Path) -> None:
    for number in range(3):
        ledger.events.emit("alias.moved", f"to {number}", task="mood")
    with sqlite3.connect(tmp_path / "ledger.sqlite3") as connection:
        connection.execute("DROP TRIGGER events_keep_update")
        connection.execute("UPDATE events SET message = 'to 7' WHERE id = 2")
    connection.close()
    assert verify(row.entry() for row in ledger.events.after(0)).broken_at == 2
