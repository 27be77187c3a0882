"""What is written down stays, moves only along its ways, and is written whole or not at all."""

import itertools
import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlite_utils
from adapterd.adapters.errors import BadRequest, DiskFailure, IllegalTransition, UnknownAdapter, VersionNotServable
from adapterd.adapters.refs import ALIASES
from adapterd.adapters.states import VERSION_MOVES, VersionState
from adapterd.daemon import schema
from adapterd.daemon.database import Database
from adapterd.daemon.errors import AliasConflict, LedgerFailed, NotAllowed, UnknownDrop
from adapterd.daemon.ledger import DropRow, Ledger, VersionRow
from adapterd.daemon.states import DROP_MOVES, DropState, JobState
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

SHA = "a" * 64


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ticks = itertools.count(1000)
    opened = Ledger(tmp_path / "adapterd.sqlite3", clock=lambda: float(next(ticks)))
    yield opened
    opened.close()


def a_drop(ledger: Ledger, task: str = "mail", sha256: str = SHA) -> DropRow:
    return ledger.drops.claim(task, "new.jsonl", sha256, 12, f"/spool/{task}/1-new.jsonl")[0]


def a_version(
    ledger: Ledger, task: str = "mail", version: int | None = None, state: VersionState = VersionState.AVAILABLE
) -> VersionRow:
    ledger.tasks.add(task)
    return ledger.versions.add(
        task,
        ledger.tasks.reserve_version(task) if version is None else version,
        state=state,
        digest="d" * 64,
        parent=0,
        drop=0,
        fingerprint="f" * 64,
        metrics={"accuracy": 0.5},
        verdict="promote",
        reason="better",
    )


class TestFile:
    def test_only_its_owner_may_read_it(self, tmp_path: Path) -> None:
        path = tmp_path / "ledger"
        path.touch(mode=0o666)
        ledger = Ledger(path)
        a_drop(ledger)
        assert {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {
            "ledger": 0o600,
            "ledger-wal": 0o600,
            "ledger-shm": 0o600,
        }
        ledger.close()

    def test_commits_are_flushed_and_references_are_held(self, tmp_path: Path) -> None:
        database = Database(tmp_path / "ledger")
        pragmas = {name: database.rows(f"PRAGMA {name}")[0] for name in ("journal_mode", "synchronous", "foreign_keys")}
        assert pragmas == {
            "journal_mode": {"journal_mode": "wal"},
            "synchronous": {"synchronous": 2},
            "foreign_keys": {"foreign_keys": 1},
        }
        assert database.rows("PRAGMA busy_timeout") == [{"timeout": 10_000}]
        database.close()

    def test_all_of_it_is_there_after_reopening(self, tmp_path: Path) -> None:
        ledger = Ledger(tmp_path / "ledger")
        drop = a_drop(ledger)
        job = ledger.jobs.queue("mail", drop.id)
        version = a_version(ledger)
        moved = ledger.aliases.promote("mail", 1, expected=None, actor="gate", reason="first")
        evaluation = ledger.evaluations.add("mail", 1, drop.id, "candidate", "d", {"loss": 1.5})
        event = ledger.events.emit("drop.claimed", "claimed", task="mail", drop=drop.id)
        ledger.close()

        ledger = Ledger(tmp_path / "ledger")
        assert ledger.drops.find() == [drop]
        assert ledger.jobs.find() == [job]
        assert ledger.versions.find() == [version]
        assert ledger.aliases.history("mail") == [moved]
        assert ledger.evaluations.find("mail") == [evaluation]
        assert ledger.events.after(0) == [event]
        assert ledger.events.last_id() == event.id
        ledger.close()

    def test_what_is_no_ledger_is_refused_with_a_hint(self, tmp_path: Path) -> None:
        (tmp_path / "ledger").write_bytes(b"this is not a database" * 100)
        with pytest.raises(LedgerFailed, match="not a database") as caught:
            Ledger(tmp_path / "ledger")
        assert "backup" in caught.value.hint

    def test_a_missing_folder_and_a_link_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(LedgerFailed, match="cannot be opened"):
            Ledger(tmp_path / "missing" / "ledger")
        (tmp_path / "link").symlink_to(tmp_path / "target")
        with pytest.raises(LedgerFailed, match="cannot be opened"):
            Ledger(tmp_path / "link")
        assert not (tmp_path / "target").exists()

    def test_a_full_ledger_says_so_and_keeps_what_it_had(self, tmp_path: Path) -> None:
        database = Database(tmp_path / "ledger")
        schema.migrate(database, 0.0)
        with database.transaction() as db:
            db.execute("INSERT INTO tasks (name, created) VALUES ('mail', 0)")
        pages = int(database.rows("PRAGMA page_count")[0]["page_count"])
        database.rows(f"PRAGMA max_page_count = {pages}")

        def write() -> None:
            with database.transaction() as db:
                db.execute("UPDATE tasks SET created = 1")
                db.execute("INSERT INTO tasks (name, created) VALUES (?, 0)", ["x" * 100_000])

        with pytest.raises(LedgerFailed, match="SQLITE_FULL") as caught:
            write()
        assert "free some space" in caught.value.hint
        assert database.rows("SELECT name, created FROM tasks") == [{"name": "mail", "created": 0.0}]
        database.close()

    def test_a_failing_disk_is_told_from_a_failing_ledger(self, tmp_path: Path) -> None:
        database = Database(tmp_path / "ledger")
        failure = sqlite3.OperationalError("disk I/O error")
        failure.sqlite_errorname = "SQLITE_IOERR_FSYNC"
        with pytest.raises(DiskFailure), database.transaction():
            raise failure
        database.close()

    def test_a_closed_ledger_fails_like_any_other(self, ledger: Ledger) -> None:
        ledger.close()
        with pytest.raises(LedgerFailed, match="closed"):
            ledger.tasks.names()


class TestMigrations:
    def test_are_applied_once_and_written_down(self, tmp_path: Path) -> None:
        database = Database(tmp_path / "ledger")
        names = [migration.__name__ for migration in schema.MIGRATIONS]
        assert schema.migrate(database, 7.0) == names
        assert schema.migrate(database, 8.0) == []
        assert [(row["name"], row["applied"]) for row in database.rows("SELECT * FROM migrations")] == [
            (name, 7.0) for name in names
        ]
        database.close()

    def test_one_that_fails_leaves_nothing_and_is_applied_next_time(self, tmp_path: Path) -> None:
        database = Database(tmp_path / "ledger")

        faults = [ValueError("no further")]

        def half(db: sqlite_utils.Database) -> None:
            db.execute("CREATE TABLE half (id INTEGER)")
            if faults:
                raise faults.pop()

        with pytest.raises(ValueError, match="no further"):
            schema.migrate(database, 0.0, (*schema.MIGRATIONS, half))
        assert database.rows("SELECT name FROM sqlite_master WHERE name = 'half'") == []
        assert schema.migrate(database, 0.0, (*schema.MIGRATIONS, half)) == ["half"]
        database.close()

    def test_a_ledger_from_a_newer_program_is_refused(self, tmp_path: Path) -> None:
        ledger = Ledger(tmp_path / "ledger")
        ledger.close()
        with sqlite3.connect(tmp_path / "ledger") as raw:
            raw.execute("INSERT INTO migrations VALUES ('add_wings', 0)")
        raw.close()
        with pytest.raises(LedgerFailed, match=r"newer adapterd .*add_wings"):
            Ledger(tmp_path / "ledger")


class TestTransactions:
    def test_all_of_a_group_or_none(self, ledger: Ledger) -> None:
        def fail() -> None:
            with ledger.transaction():
                a_drop(ledger)
                a_version(ledger)
                ledger.aliases.promote("mail", 1, expected=None, actor="gate", reason="")
                ledger.events.emit("drop.claimed", "claimed")
                raise KeyError("stop")

        with pytest.raises(KeyError, match="stop"):
            fail()
        assert ledger.tasks.names() == []
        assert ledger.drops.find() == []
        assert ledger.versions.find() == []
        assert ledger.aliases.of("mail") == {}
        assert ledger.aliases.history("mail") == []
        assert ledger.events.after(0) == []
        assert ledger.events.last_id() == 0

    def test_an_inner_group_that_fails_undoes_itself_alone(self, ledger: Ledger) -> None:
        def fail() -> None:
            with ledger.transaction():
                ledger.tasks.add("chat")
                raise KeyError

        with ledger.transaction():
            ledger.tasks.add("mail")
            with pytest.raises(KeyError):
                fail()
            ledger.tasks.add("code")
        assert ledger.tasks.names() == ["code", "mail"]

    def test_other_threads_see_nothing_before_the_end(self, ledger: Ledger) -> None:
        inside, seen = threading.Event(), list[list[str]]()

        def look() -> None:
            inside.wait(10)
            seen.append(ledger.tasks.names())

        reader = threading.Thread(target=look)
        reader.start()
        with ledger.transaction():
            ledger.tasks.add("mail")
            inside.set()
            ledger.tasks.add("chat")
        reader.join(10)
        assert seen == [["chat", "mail"]]

    def test_many_threads_lose_no_update_and_share_no_number(self, ledger: Ledger) -> None:
        ledger.tasks.add("mail")

        def work(worker: int) -> list[int]:
            numbers = []
            for turn in range(10):
                numbers.append(ledger.tasks.reserve_version("mail"))
                with ledger.transaction():
                    a_drop(ledger, sha256=f"{worker:032x}{turn:032x}")
                    ledger.events.emit("drop.claimed", f"{worker}/{turn}")
            return numbers

        with ThreadPoolExecutor(8) as pool:
            numbers = list(itertools.chain.from_iterable(pool.map(work, range(8))))
        assert sorted(numbers) == list(range(1, 81))
        assert len(ledger.drops.find()) == 80
        assert [event.id for event in ledger.events.after(0)] == list(range(1, 81))


class TestDrops:
    def test_a_claim_makes_its_task_known(self, ledger: Ledger) -> None:
        drop, new = ledger.drops.claim("mail", "new.jsonl", SHA, 12, "/spool/mail/1-new.jsonl")
        assert new
        assert drop.state is DropState.CLAIMED
        assert (drop.filename, drop.size, drop.path) == ("new.jsonl", 12, "/spool/mail/1-new.jsonl")
        assert (drop.details, drop.released, drop.version, drop.reason) == ({}, False, 0, "")
        assert drop.arrived == drop.updated > 0
        assert ledger.tasks.names() == ["mail"]

    def test_the_same_bytes_are_one_drop_of_a_task(self, ledger: Ledger) -> None:
        first = a_drop(ledger)
        again, new = ledger.drops.claim("mail", "other.jsonl", SHA, 12, "/spool/mail/2-other.jsonl")
        assert (again, new) == (first, False)
        _, new = ledger.drops.claim("chat", "new.jsonl", SHA, 12, "/spool/chat/3-new.jsonl")
        assert new

    def test_a_move_writes_what_was_found(self, ledger: Ledger) -> None:
        drop = a_drop(ledger)
        ledger.drops.move(drop.id, DropState.PARSED, rows=10, bad_rows=1, details={"parse": {"lines": [3]}})
        ledger.drops.move(drop.id, DropState.AUDITED, train_rows=8, heldout_rows=2, details={"audit": {"leaks": 0}})
        held = ledger.drops.move(drop.id, DropState.HELD, reason="drifted")
        assert (held.rows, held.bad_rows, held.train_rows, held.heldout_rows) == (10, 1, 8, 2)
        assert held.details == {"parse": {"lines": [3]}, "audit": {"leaks": 0}}
        assert held.reason == "drifted"
        assert held.updated > drop.updated
        released = ledger.drops.move(drop.id, DropState.PARSED, plan="train", released=True, path=Path("/data/x"))
        assert (released.plan, released.released, released.path, released.reason) == ("train", True, "/data/x", "")

    def test_a_move_writes_no_other_column(self, ledger: Ledger) -> None:
        drop = a_drop(ledger)
        with pytest.raises(TypeError, match="sha256"):
            ledger.drops.move(drop.id, DropState.PARSED, sha256="b" * 64)  # type: ignore[call-arg]

    def test_numbers_that_are_no_numbers_are_refused(self, ledger: Ledger) -> None:
        drop = a_drop(ledger)
        with pytest.raises(ValueError, match="not JSON compliant"):
            ledger.drops.move(drop.id, DropState.PARSED, details={"loss": float("nan")})
        assert ledger.drops.get(drop.id) == drop

    def test_names_that_are_not_unicode_are_kept_readable(self, ledger: Ledger) -> None:
        drop, _ = ledger.drops.claim("mail", os.fsdecode(b"caf\xe9.jsonl"), SHA, 1, "/spool/x")
        assert drop.filename == "caf?.jsonl"
        failed = ledger.drops.move(drop.id, DropState.FAILED, reason="\udce9", details={"text": "\udce9"})
        assert (failed.reason, failed.details) == ("?", {"text": "?"})

    def test_find_narrows_by_all_that_is_given(self, ledger: Ledger) -> None:
        first, second = a_drop(ledger), a_drop(ledger, sha256="b" * 64)
        other = a_drop(ledger, "chat")
        second = ledger.drops.move(second.id, DropState.PARSED)
        assert ledger.drops.find() == [first, second, other]
        assert ledger.drops.find("mail") == [first, second]
        assert ledger.drops.find(sha256=SHA) == [first, other]
        assert ledger.drops.find(states=[DropState.PARSED, DropState.DONE]) == [second]
        assert ledger.drops.find(states=[]) == []
        assert ledger.drops.find("chat", SHA, {DropState.CLAIMED}) == [other]

    def test_an_unknown_drop_is_named(self, ledger: Ledger) -> None:
        with pytest.raises(UnknownDrop, match="no drop 7"):
            ledger.drops.get(7)
        with pytest.raises(UnknownDrop, match="no drop 7"):
            ledger.drops.move(7, DropState.PARSED)
        with pytest.raises(UnknownDrop, match="no drop 7"):
            ledger.drops.amend(7, path=Path("/x"))

    def test_a_drop_may_lie_elsewhere_without_moving_on(self, ledger: Ledger) -> None:
        drop = a_drop(ledger)
        assert ledger.drops.amend(drop.id, path=Path("/new/spool/x")).path == "/new/spool/x"
        assert ledger.drops.get(drop.id).state is DropState.CLAIMED

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(steps=st.lists(st.sampled_from(list(DropState)), max_size=20), sha=st.integers(0, 2**256 - 1))
    def test_any_sequence_of_moves_keeps_to_the_ways(self, ledger: Ledger, steps: list[DropState], sha: int) -> None:
        drop = a_drop(ledger, sha256=f"{sha:064x}")
        for to in steps:
            before = ledger.drops.get(drop.id)
            if to in DROP_MOVES[before.state]:
                assert ledger.drops.move(drop.id, to).state is to
            else:
                with pytest.raises(NotAllowed):
                    ledger.drops.move(drop.id, to, reason="never written", rows=99)
                assert ledger.drops.get(drop.id) == before


class TestJobs:
    def test_are_taken_oldest_first_when_their_time_has_come(self, ledger: Ledger) -> None:
        first = ledger.jobs.queue("mail", a_drop(ledger).id)
        second = ledger.jobs.queue("mail", a_drop(ledger, sha256="b" * 64).id)
        assert ledger.jobs.next(0.0) == first
        ledger.jobs.move(first.id, JobState.RUNNING)
        waiting = ledger.jobs.move(first.id, JobState.QUEUED, error="killed", not_before=500.0)
        assert ledger.jobs.next(499.0) == second
        assert ledger.jobs.next(500.0) == waiting
        assert waiting.error == "killed"

    def test_none_waits(self, ledger: Ledger) -> None:
        assert ledger.jobs.next(1e12) is None

    def test_a_drop_has_one_job_at_a_time(self, ledger: Ledger) -> None:
        drop = a_drop(ledger)
        job = ledger.jobs.queue("mail", drop.id)
        assert ledger.jobs.queue("mail", drop.id) == job
        ledger.jobs.move(job.id, JobState.CANCELLED)
        assert ledger.jobs.queue("mail", drop.id).id > job.id
        assert len(ledger.jobs.find(drop=drop.id)) == 2

    def test_attempts_and_times_are_counted(self, ledger: Ledger) -> None:
        job = ledger.jobs.queue("mail", a_drop(ledger).id)
        assert (job.attempts, job.failures, job.started, job.ended) == (0, 0, None, None)
        job = ledger.jobs.move(job.id, JobState.RUNNING)
        started = job.started
        assert job.attempts == 1
        job = ledger.jobs.move(job.id, JobState.QUEUED, error="killed", failed=True)
        assert (job.failures, job.ended) == (1, None)
        job = ledger.jobs.move(job.id, JobState.RUNNING)
        assert (job.attempts, job.failures, job.error) == (2, 1, "killed")
        assert started is not None
        assert job.started is not None
        assert job.started > started
        job = ledger.jobs.move(job.id, JobState.DONE)
        assert (job.attempts, job.error) == (2, "")
        assert job.ended is not None
        assert job.ended > job.started  # type: ignore[operator]

    def test_progress_is_that_of_a_running_job(self, ledger: Ledger) -> None:
        job = ledger.jobs.queue("mail", a_drop(ledger).id)
        ledger.jobs.progress(job.id, "training", 0.5)
        assert ledger.jobs.get(job.id) == job
        ledger.jobs.move(job.id, JobState.RUNNING)
        ledger.jobs.progress(job.id, "training", 1.5)
        assert (ledger.jobs.get(job.id).phase, ledger.jobs.get(job.id).progress) == ("training", 1.0)

    def test_find_narrows_by_all_that_is_given(self, ledger: Ledger) -> None:
        mail = ledger.jobs.queue("mail", a_drop(ledger).id)
        chat = ledger.jobs.queue("chat", a_drop(ledger, "chat").id)
        chat = ledger.jobs.move(chat.id, JobState.RUNNING)
        assert ledger.jobs.find() == [mail, chat]
        assert ledger.jobs.find("mail") == [mail]
        assert ledger.jobs.find(states=[JobState.RUNNING]) == [chat]

    def test_an_unknown_job_is_named_and_an_illegal_move_refused(self, ledger: Ledger) -> None:
        with pytest.raises(UnknownDrop, match="no job 7"):
            ledger.jobs.get(7)
        job = ledger.jobs.queue("mail", a_drop(ledger).id)
        with pytest.raises(NotAllowed):
            ledger.jobs.move(job.id, JobState.DONE)
        with pytest.raises(LedgerFailed, match="FOREIGN KEY"):
            ledger.jobs.queue("mail", 99)


class TestVersions:
    def test_numbers_count_per_task_and_are_never_given_out_again(self, ledger: Ledger) -> None:
        ledger.tasks.add("mail")
        ledger.tasks.add("mail")
        ledger.tasks.add("chat")
        assert [ledger.tasks.reserve_version("mail") for _ in range(3)] == [1, 2, 3]
        assert ledger.tasks.reserve_version("chat") == 1
        a_version(ledger, "mail", 9)
        assert ledger.tasks.reserve_version("mail") == 10
        with pytest.raises(UnknownAdapter, match="no task music"):
            ledger.tasks.reserve_version("music")

    def test_a_number_names_one_version_for_ever(self, ledger: Ledger) -> None:
        a_version(ledger, state=VersionState.CANDIDATE)
        ledger.versions.move("mail", 1, VersionState.DELETED)
        with pytest.raises(NotAllowed, match="mail@1 exists already"):
            a_version(ledger, version=1)

    def test_what_was_added_is_found(self, ledger: Ledger) -> None:
        second, other = a_version(ledger, version=2), a_version(ledger, "chat")
        first = a_version(ledger, version=1, state=VersionState.CANDIDATE)
        assert ledger.versions.get("mail", 2) == second
        assert ledger.versions.find("mail") == [first, second]
        assert ledger.versions.find() == [other, first, second]
        assert (second.metrics, second.verdict, second.pinned) == ({"accuracy": 0.5}, "promote", False)
        with pytest.raises(UnknownAdapter, match="no version mail@3"):
            ledger.versions.get("mail", 3)

    def test_moves_and_pins(self, ledger: Ledger) -> None:
        a_version(ledger, state=VersionState.CANDIDATE)
        assert ledger.versions.move("mail", 1, VersionState.AVAILABLE).state is VersionState.AVAILABLE
        with pytest.raises(IllegalTransition):
            ledger.versions.move("mail", 1, VersionState.CANDIDATE)
        assert ledger.versions.pin("mail", 1, True).pinned
        assert not ledger.versions.pin("mail", 1, False).pinned
        with pytest.raises(UnknownAdapter):
            ledger.versions.pin("mail", 2, True)
        with pytest.raises(UnknownAdapter):
            ledger.versions.move("mail", 2, VersionState.AVAILABLE)

    def test_what_an_alias_names_is_not_retired(self, ledger: Ledger) -> None:
        a_version(ledger)
        ledger.aliases.promote("mail", 1, expected=None, actor="gate", reason="")
        with pytest.raises(NotAllowed, match="it is the task's champion"):
            ledger.versions.move("mail", 1, VersionState.RETIRED)


class TestAliases:
    def test_move_by_compare_and_swap(self, ledger: Ledger) -> None:
        a_version(ledger)
        a_version(ledger)
        with pytest.raises(AliasConflict, match="champion of mail is unset, not 1"):
            ledger.aliases.move("mail", "champion", 2, expected=1, actor="gate", reason="")
        moved = ledger.aliases.move("mail", "champion", 1, expected=None, actor="gate", reason="first")
        assert (moved.from_version, moved.to_version, moved.actor, moved.reason) == (None, 1, "gate", "first")
        with pytest.raises(AliasConflict) as caught:
            ledger.aliases.move("mail", "champion", 2, expected=None, actor="gate", reason="")
        assert caught.value.details["current"] == "1"
        unset = ledger.aliases.move("mail", "champion", None, expected=1, actor="person", reason="off")
        assert (unset.from_version, unset.to_version) == (1, None)
        assert ledger.aliases.of("mail") == {}
        assert ledger.aliases.history("mail") == [moved, unset]
        assert ledger.aliases.history("mail", 1) == [unset]

    def test_one_of_many_racers_wins(self, ledger: Ledger) -> None:
        for _ in range(8):
            a_version(ledger)

        def race(version: int) -> bool:
            try:
                ledger.aliases.promote("mail", version, expected=None, actor="racer", reason="")
            except AliasConflict:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(race, range(1, 9)))
        assert won.count(True) == 1
        assert ledger.aliases.of("mail") == {"champion": won.index(True) + 1}
        assert len(ledger.aliases.history("mail")) == 1

    def test_promotion_keeps_the_champion_before_as_previous(self, ledger: Ledger) -> None:
        for _ in range(3):
            a_version(ledger)
        ledger.aliases.promote("mail", 1, expected=None, actor="gate", reason="")
        assert ledger.aliases.of("mail") == {"champion": 1}
        ledger.aliases.promote("mail", 2, expected=1, actor="gate", reason="")
        assert ledger.aliases.of("mail") == {"champion": 2, "previous": 1}
        back = ledger.aliases.promote("mail", 1, expected=2, actor="person", reason="worse")
        assert (back.alias, back.from_version, back.to_version) == ("champion", 2, 1)
        assert ledger.aliases.of("mail") == {"champion": 1, "previous": 2}
        ledger.aliases.move("mail", "champion", None, expected=1, actor="person", reason="")
        ledger.aliases.promote("mail", 2, expected=None, actor="person", reason="")
        assert ledger.aliases.of("mail") == {"champion": 2, "previous": 2}

    @pytest.mark.parametrize(
        ("version", "alias", "error"),
        [(1, "champion", NotAllowed), (9, "champion", UnknownAdapter), (2, "champion", VersionNotServable)],
    )
    def test_nowhere_useless_is_refused(self, ledger: Ledger, version: int, alias: str, error: type[Exception]) -> None:
        a_version(ledger)
        a_version(ledger)
        ledger.versions.move("mail", 2, VersionState.RETIRED)
        ledger.aliases.promote("mail", 1, expected=None, actor="gate", reason="")
        with pytest.raises(error):
            ledger.aliases.promote("mail", version, expected=1, actor="gate", reason="")
        assert ledger.aliases.of("mail") == {"champion": 1}
        assert len(ledger.aliases.history("mail")) == 1

    def test_there_are_three_of_them(self, ledger: Ledger) -> None:
        a_version(ledger)
        with pytest.raises(BadRequest, match="'best' is not an alias"):
            ledger.aliases.move("mail", "best", 1, expected=None, actor="person", reason="")


class TestEvaluations:
    def test_are_found_by_task_and_version(self, ledger: Ledger) -> None:
        ledger.tasks.add("mail")
        first = ledger.evaluations.add("mail", 1, 1, "base", "f", {"drops": {"1": {"loss": 2.0}}})
        second = ledger.evaluations.add("mail", 2, 2, "candidate", "d", {})
        assert ledger.evaluations.find("mail") == [first, second]
        assert ledger.evaluations.find("mail", 1) == [first]
        assert first.figures == {"drops": {"1": {"loss": 2.0}}}


class TestEvents:
    def test_come_in_order_and_by_task(self, ledger: Ledger) -> None:
        emitted = [
            ledger.events.emit("drop.claimed", f"file {turn}", task=("mail", "chat")[turn % 2], details={"turn": turn})
            for turn in range(6)
        ]
        assert ledger.events.after(0) == emitted
        assert ledger.events.after(emitted[3].id) == emitted[4:]
        assert ledger.events.after(0, task="mail") == emitted[::2]
        assert ledger.events.after(0, limit=2) == emitted[:2]
        assert ledger.events.last_id() == emitted[-1].id

    def test_whoever_waits_wakes_at_the_commit(self, ledger: Ledger) -> None:
        woken = list[list[str]]()
        waits = threading.Event()

        def follow() -> None:
            waits.set()
            assert ledger.events.wait(0, timeout=10)
            woken.append([event.kind for event in ledger.events.after(0)])

        reader = threading.Thread(target=follow)
        reader.start()
        waits.wait(10)
        with ledger.transaction():
            ledger.events.emit("drop.claimed", "")
            assert ledger.events.last_id() == 0
            ledger.events.emit("drop.parsed", "")
        reader.join(10)
        assert woken == [["drop.claimed", "drop.parsed"]]

    def test_waiting_ends_without_an_event(self, ledger: Ledger) -> None:
        assert not ledger.events.wait(0, timeout=0.0)
        ledger.events.emit("drop.claimed", "")
        assert ledger.events.wait(0, timeout=0.0)
        assert not ledger.events.wait(1, timeout=0.0)

    def test_one_that_is_undone_wakes_nobody(self, ledger: Ledger) -> None:
        def fail() -> None:
            with ledger.transaction():
                ledger.events.emit("drop.parsed", "")
                raise KeyError

        with ledger.transaction():
            ledger.events.emit("drop.claimed", "")
            with pytest.raises(KeyError):
                fail()
        assert ledger.events.last_id() == 1
        with pytest.raises(KeyError):
            fail()
        assert ledger.events.last_id() == 1
        assert not ledger.events.wait(1, timeout=0.0)


class Registry(RuleBasedStateMachine):
    """Versions and aliases under any sequence of calls, crashes of a caller and restarts, beside a plain model."""

    @initialize()
    def begin(self) -> None:
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))
        self.ledger = Ledger(self.folder / "ledger", clock=itertools.count(1).__next__)
        self.ledger.tasks.add("mail")
        self.reserved = list[int]()
        self.states = dict[int, VersionState]()
        self.aliases = dict[str, int]()
        self.moves = 0

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()
            shutil.rmtree(self.folder)

    @rule()
    def reserve(self) -> None:
        number = self.ledger.tasks.reserve_version("mail")
        assert number > max([0, *self.reserved, *self.states])
        self.reserved.append(number)

    @precondition(lambda self: self.reserved)
    @rule(data=st.data(), state=st.sampled_from([VersionState.CANDIDATE, VersionState.AVAILABLE]))
    def publish(self, data: st.DataObject, state: VersionState) -> None:
        number = data.draw(st.sampled_from(self.reserved))
        if number in self.states:
            with pytest.raises(NotAllowed):
                a_version(self.ledger, version=number, state=state)
        else:
            a_version(self.ledger, version=number, state=state)
            self.states[number] = state

    @precondition(lambda self: self.states)
    @rule(data=st.data(), to=st.sampled_from(list(VersionState)))
    def move_version(self, data: st.DataObject, to: VersionState) -> None:
        number = data.draw(st.sampled_from(sorted(self.states)))
        named = number in self.aliases.values()
        if to not in VERSION_MOVES[self.states[number]]:
            self.refused(IllegalTransition, lambda: self.ledger.versions.move("mail", number, to))
        elif named and to in {VersionState.RETIRED, VersionState.DELETED}:
            self.refused(NotAllowed, lambda: self.ledger.versions.move("mail", number, to))
        else:
            self.ledger.versions.move("mail", number, to)
            self.states[number] = to

    @rule(
        alias=st.sampled_from(ALIASES),
        to=st.one_of(st.none(), st.integers(1, 6)),
        stale=st.booleans(),
        guess=st.one_of(st.none(), st.integers(1, 6)),
    )
    def move_alias(self, alias: str, to: int | None, stale: bool, guess: int | None) -> None:
        current = self.aliases.get(alias)
        expected = guess if stale else current

        def move() -> None:
            self.ledger.aliases.move("mail", alias, to, expected=expected, actor="test", reason="")

        if error := self.why_not(alias, to, expected):
            self.refused(error, move)
            return
        move()
        self.moves += 1
        if to is None:
            del self.aliases[alias]
        else:
            self.aliases[alias] = to

    @rule(to=st.integers(1, 6), stale=st.booleans(), guess=st.one_of(st.none(), st.integers(1, 6)))
    def promote(self, to: int, stale: bool, guess: int | None) -> None:
        champion = self.aliases.get("champion")
        expected = guess if stale else champion

        def promote() -> None:
            self.ledger.aliases.promote("mail", to, expected=expected, actor="test", reason="")

        if error := self.why_not("champion", to, expected):
            self.refused(error, promote)
            return
        promote()
        self.moves += 1
        self.aliases["champion"] = to
        if champion is not None and self.aliases.get("previous") != champion:
            self.aliases["previous"] = champion
            self.moves += 1

    @precondition(lambda self: self.states)
    @rule()
    def fail_in_the_middle(self) -> None:
        def half() -> None:
            with self.ledger.transaction():
                a_version(self.ledger, version=self.ledger.tasks.reserve_version("mail"))
                newest = max(row.version for row in self.ledger.versions.find("mail"))
                champion = self.aliases.get("champion")
                self.ledger.aliases.promote("mail", newest, expected=champion, actor="test", reason="")
                raise KeyError

        self.refused(KeyError, half)

    @rule()
    def restart(self) -> None:
        self.ledger.close()
        self.ledger = Ledger(self.folder / "ledger", clock=itertools.count(1).__next__)

    @invariant()
    def aliases_are_where_the_model_has_them(self) -> None:
        if hasattr(self, "ledger"):
            assert self.ledger.aliases.of("mail") == self.aliases
            assert {row.version: row.state for row in self.ledger.versions.find("mail")} == self.states

    @invariant()
    def history_leads_to_the_present(self) -> None:
        if hasattr(self, "ledger"):
            replayed = dict[str, int]()
            history = self.ledger.aliases.history("mail")
            for move in history:
                assert replayed.pop(move.alias, None) == move.from_version
                if move.to_version is not None:
                    replayed[move.alias] = move.to_version
            assert replayed == self.aliases
            assert len(history) == self.moves

    @invariant()
    def an_alias_names_what_can_be_served(self) -> None:
        if hasattr(self, "ledger"):
            for version in self.ledger.aliases.of("mail").values():
                state = self.ledger.versions.get("mail", version).state
                assert state not in {VersionState.RETIRED, VersionState.DELETED}

    def why_not(self, alias: str, to: int | None, expected: int | None) -> type[Exception] | None:
        current = self.aliases.get(alias)
        if expected != current:
            return AliasConflict
        if to == current:
            return NotAllowed
        if to is not None and to not in self.states:
            return UnknownAdapter
        if to is not None and self.states[to] in {VersionState.RETIRED, VersionState.DELETED}:
            return VersionNotServable
        return None

    @staticmethod
    def refused(error: type[Exception], call: Callable[[], object]) -> None:
        with pytest.raises(error):
            call()


TestRegistry = Registry.TestCase
TestRegistry.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


def test_events_are_found_by_the_beginning_of_their_kind(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    for kind, task in (
        ("drift.input", "mood"),
        ("drop.done", "mood"),
        ("drift.input", "other"),
        ("drift.concept", "mood"),
    ):
        ledger.events.emit(kind, kind, task=task)
    assert [event.kind for event in ledger.events.of_kind("mood", "drift.")] == ["drift.input", "drift.concept"]
    assert [event.kind for event in ledger.events.of_kind("mood", "drift.", 1)] == ["drift.concept"]
    assert ledger.events.of_kind("mood", "%") == []
    ledger.close()
