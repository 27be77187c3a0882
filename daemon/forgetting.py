"""The right to be forgotten: rows are taken out of everything that is kept, and who has learned from them is told.

A row leaves the drop's good rows, the part that it went to (and so the replay buffer, or the rows that versions are
judged by), what the audit said of it and the bad rows set aside; the dropped file itself goes too. Weights cannot
unlearn: the versions that saw the rows are named, and `retrain` goes back to the last one that did not and learns the
drops after it again.

That rows of a drop are forgotten is written down first, then they leave the files, the good rows last: what was
interrupted is ended by asking again, and no version that saw them is missed.
"""

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

from ..adapters.errors import BadRequest
from ..adapters.refs import check_task
from ..adapters.states import VersionState
from ..continual.examples import Example
from .corrections import Corrections
from .dataset import Dataset
from .errors import NotAllowed, UnknownDrop
from .ledger import DropRow, Ledger, VersionRow
from .lifecycle import Lifecycle
from .lineage import ancestors, rehearsed
from .states import DropState
from .training_job import TrainingJob
from .worker import Worker


@dataclass(frozen=True, slots=True)
class Found:
    """What a drop holds of the rows to forget: `rows` in all, `learned` from, `judged` by, and `bad` ones set aside.

    `unsearched`: of its bad rows only the beginning is kept, or it was set aside whole: there may be more in its file.
    """

    drop: DropRow
    rows: int
    learned: int
    judged: int
    bad: int
    unsearched: bool


@dataclass(frozen=True, slots=True)
class Retraining:
    """What `retrain` did: the champion now (0: none), the versions deleted, and the drops that are learned again."""

    task: str
    champion: int
    deleted: tuple[int, ...]
    drops: tuple[int, ...]


def versions_that_saw(
    versions: Sequence[VersionRow], forgotten: Mapping[int, int], rehearsed: Mapping[int, int] = MappingProxyType({})
) -> dict[int, tuple[int, ...]]:
    """The versions of a task that have learned from forgotten rows, each with the drops in which these stood.

    `forgotten`: for each drop the first version that can no longer have learned from what is gone of it. `rehearsed`:
    for each drop that needed no training, the version that needed none. A version saw the drop that it was trained on,
    those before it that were rehearsed by what it descends from, and all that its parent saw.
    """
    rows = {row.version: row for row in versions}
    saw: dict[int, set[int]] = {0: set()}
    behind: dict[int, set[int]] = {0: set()}
    for number, row in sorted(rows.items()):  # a parent is older than its child
        behind[number] = {number, *behind[row.parent]}
        replayed = {drop for drop, by in rehearsed.items() if drop < row.drop and by in behind[row.parent]}
        own = {drop for drop in {row.drop, *replayed} if number < forgotten.get(drop, 0)}
        saw[number] = saw[row.parent] | own
    return {
        number: tuple(sorted(drops))
        for number, drops in saw.items()
        if drops and rows[number].state is not VersionState.DELETED
    }


class Forgetting:
    """Acts on rows, ledger and versions; no drop goes on meanwhile."""

    def __init__(
        self, ledger: Ledger, dataset: Dataset, lifecycle: Lifecycle, worker: Worker, corrections: Corrections
    ) -> None:
        self._ledger = ledger
        self._dataset = dataset
        self._lifecycle = lifecycle
        self._worker = worker
        self._corrections = corrections

    def find(self, task: str | None, *, text: str = "", drop: int = 0) -> list[Found]:
        """The drops that hold rows with `text` in them, or that are `drop`.

        Case, accents' encoding and the kind and number of spaces do not matter. Raises `BadRequest` unless exactly one
        of `text` and `drop` is given.
        """
        if bool(text.strip()) == bool(drop):
            raise BadRequest("name either a text or a drop to forget", hint="--match TEXT or --drop N", field="match")
        if drop:
            row = self._ledger.drops.get(drop)
            if task and row.task != task:
                raise UnknownDrop(
                    f"drop {drop} is of {row.task}, not of {task}", hint=f"`adapterd drops {task}` lists those it has"
                )
            return [self._whole(row)]
        wanted = partial(_says, _plain(text))
        found = [self._search(row, wanted) for name in self._names(task) for row in self._ledger.drops.find(name)]
        return [one for one in found if one.rows or one.bad or one.unsearched]

    def forget(self, task: str | None, *, text: str = "", drop: int = 0, actor: str) -> list[Found]:
        """Take the rows out for good; see `find`. Returns what was there.

        Raises `NotAllowed` while a drop of a task that is concerned is on its way.
        """
        names = {one.drop.task for one in self.find(task, text=text, drop=drop)} if drop else self._names(task)
        forgotten: list[Found] = []
        for name in sorted(names):
            with self._worker.resting(name):
                if not drop:
                    self._corrections.forget(name, partial(_says, _plain(text)))
                for found in self.find(name, text=text, drop=drop):
                    forgotten.append(found)
                    if drop:
                        self._mark(found)
                        self._dataset.remove(name, drop)
                        self._write_down(found, actor, whole=True)
                    elif found.rows or found.bad:
                        self._mark(found)
                        self._dataset.remove_rows(name, found.drop.id, partial(_says, _plain(text)))
                        self._write_down(found, actor, whole=False)
        return forgotten

    def saw(self, task: str, found: Iterable[Found] = ()) -> dict[int, tuple[int, ...]]:
        """The versions of a task that have learned from rows that are forgotten by now, or that are `found` and will
        be; and from which drops.
        """
        drops = self._ledger.drops.find(check_task(task))
        gone = {row.id: int(row.details["forgotten"]["before"]) for row in drops if "forgotten" in row.details}
        following = self._ledger.tasks.next_version(task)
        gone |= {one.drop.id: following for one in found if one.drop.task == task and one.learned}
        return versions_that_saw(self._ledger.versions.find(task), gone, rehearsed(self._ledger, task))

    def retrain(self, task: str, *, actor: str) -> Retraining:
        """Make the last champion that saw none of the forgotten rows champion again, delete the versions that did, and
        learn the drops after it once more. Without such a version the task has no champion until the first is learned.

        Raises `NotAllowed` if no version saw any, or while a drop of the task is on its way.
        """
        with self._worker.resting(check_task(task)):
            saw = self.saw(task)
            if not saw:
                raise NotAllowed(
                    f"no version of {task} has learned from forgotten rows", hint="there is nothing to retrain"
                )
            champion = self._ledger.aliases.of(task).get("champion", 0)
            clean = self._clean_ancestor(task, champion, saw)
            learned = self._drops_behind(task, champion) - self._drops_behind(task, clean)
            again = [drop for drop in sorted(learned) if self._ledger.drops.get(drop).rows]

            def learn_again() -> None:
                for drop in again:
                    self._ledger.drops.move(
                        drop,
                        DropState.PARSED,
                        reason="learned again without what is forgotten",
                        released=True,
                        details={"rehearsed_by": 0},
                    )
                self._ledger.events.emit(
                    "rows.retraining",
                    f"{task}: {_versions(task, saw)} learned from forgotten rows and are deleted; "
                    f"{f'{task}@{clean} is champion' if clean else 'there is no champion'} while "
                    f"{_numbers('drop', again)} {'is' if len(again) == 1 else 'are'} learned again",
                    task=task,
                    version=clean,
                    details={"actor": actor, "deleted": sorted(saw), "drops": again},
                )

            self._lifecycle.withdraw(
                task, sorted(saw), champion=clean or None, actor=actor, reason="rows were forgotten", also=learn_again
            )
            return Retraining(task, clean, tuple(sorted(saw)), tuple(again))

    def _names(self, task: str | None) -> list[str]:
        return [check_task(task)] if task else self._ledger.tasks.names()

    def _whole(self, drop: DropRow) -> Found:
        parts = {part: len(self._dataset.read(drop.task, drop.id, part)) for part in ("rows", "heldout")}
        learned = len(self._dataset.learned(drop.task, drop.id))
        return Found(drop, parts["rows"], learned, parts["heldout"], drop.bad_rows, False)

    def _search(self, drop: DropRow, wanted: Callable[[str], bool]) -> Found:
        def count(rows: Iterable[Example]) -> int:
            return sum(row.says(wanted) for row in rows)

        rows = count(self._dataset.read(drop.task, drop.id, "rows"))
        learned = count(self._dataset.learned(drop.task, drop.id))
        judged = count(self._dataset.read(drop.task, drop.id, "heldout"))
        bad = sum(wanted(row.text) for row in self._dataset.read_bad_rows(drop.task, drop.id))
        file = Path(drop.path)
        as_it_came = file.is_file() and file != self._dataset.rows_file(drop.task, drop.id)
        unsearched = as_it_came and not (rows or bad) and bool(drop.bad_rows or not drop.rows)
        return Found(drop, rows, learned, judged, bad, unsearched)

    def _mark(self, found: Found) -> None:
        """Note which versions can have learned from what is about to go."""
        drop = found.drop
        before = drop.details.get("forgotten", {"before": 0})["before"]
        if found.learned:
            before = self._ledger.tasks.next_version(drop.task)
        self._ledger.drops.amend(drop.id, details={"forgotten": {"before": before}})

    def _write_down(self, found: Found, actor: str, *, whole: bool) -> None:
        drop = found.drop
        for job in self._ledger.jobs.find(drop=drop.id):
            TrainingJob(self._worker.job_folder(job)).clear()  # a checkpoint has learned, too
        audit = drop.details.get("audit")
        # The audit's summary quotes some rows, and which of them are gone is not known any more.
        details = {"audit": {**audit, "findings": {name: [] for name in audit["findings"]}}} if audit else {}
        with self._ledger.transaction():
            self._ledger.drops.amend(
                drop.id,
                path=self._dataset.rows_file(drop.task, drop.id),
                rows=drop.rows - found.rows,
                bad_rows=drop.bad_rows - found.bad,
                train_rows=len(self._dataset.read(drop.task, drop.id, "train")),
                heldout_rows=len(self._dataset.read(drop.task, drop.id, "heldout")),
                details=details,
            )
            if whole and drop.state is not DropState.DONE:
                self._ledger.drops.move(drop.id, DropState.DONE, reason="all of it is forgotten")
            # Neither what was searched for nor what was found is told: it is to be forgotten.
            self._ledger.events.emit(
                "rows.forgotten",
                f"{found.rows + found.bad} rows of drop {drop.id} ({drop.filename}) are forgotten: "
                f"{found.learned} learned from, {found.judged} judged by",
                task=drop.task,
                drop=drop.id,
                details={"actor": actor, "rows": found.rows, "learned": found.learned, "judged": found.judged},
            )

    def _clean_ancestor(self, task: str, version: int, saw: Mapping[int, tuple[int, ...]]) -> int:
        """The newest version behind `version`, itself among them, that is there and saw nothing; 0 for the base."""
        versions = self._ledger.versions.find(task)
        there = {row.version for row in versions if row.state is not VersionState.DELETED} - set(saw)
        return next((number for number in ancestors(self._ledger, task, version) if number in there), 0)

    def _drops_behind(self, task: str, version: int) -> set[int]:
        """The drops that a version and those before it were trained on or rehearse; an imported one's are not known."""
        trained = {row.version: row.drop for row in self._ledger.versions.find(task)}
        behind = ancestors(self._ledger, task, version)
        kept = {drop for drop, by in rehearsed(self._ledger, task).items() if by in behind}
        return ({trained[number] for number in behind} | kept) - {0}


def _says(wanted: str, text: str) -> bool:
    return wanted in _plain(text)


def _plain(text: str) -> str:
    """Text as it is compared: compatible characters alike, without case, one space where there are many."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _versions(task: str, numbers: Iterable[int]) -> str:
    return ", ".join(f"{task}@{number}" for number in sorted(numbers))


def _numbers(noun: str, numbers: Sequence[int]) -> str:
    return f"{noun}{'' if len(numbers) == 1 else 's'} {', '.join(map(str, numbers))}"
