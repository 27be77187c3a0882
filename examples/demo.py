"""The main job, once, for real: `python -m examples.demo` (or `make demo`).

Two tasks learn from two drops each while a daemon serves them; one is reverted, the daemon is killed while it trains
and started again. Exit status 0 only if everything that is promised was seen to hold.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from adapterd.daemon.client import Client
from adapterd.daemon.errors import DaemonError
from adapterd.daemon.render import printable
from adapterd.v1 import adapters_pb2, learning_pb2

from .daemon_process import DaemonProcess, share_bases
from .demo_figures import show_figures, show_what_was_kept
from .demo_screen import PROGRESS, Event, Failed, Story, details
from .figures import DATA, LABELS, classify, rewrite, rows_of

TICKETS, STYLE = "tickets", "house-style"

_CHECKPOINT_STEPS = 5
# What differs from the defaults: files settle sooner and checkpoints come oftener, as the drops are small.
_SETTINGS = {"settle_s": 0.5, "rescan_s": 2.0, "training": {"checkpoint_steps": _CHECKPOINT_STEPS}}
_CLAIM_PATIENCE_S = 60.0


class Demo:
    """The steps of the story, in order; `waits` keeps the seconds from a drop to its version serving."""

    def __init__(self, daemon: DaemonProcess, story: Story) -> None:
        self._daemon = daemon
        self._story = story
        self._dropped: dict[tuple[str, int], float] = {}
        self._waits: dict[tuple[str, int], float] = {}

    def run(self) -> None:
        """All of it. Raises `Failed`, `DaemonError` or `RuntimeError` where it cannot go on."""
        self._start()
        with self._daemon.client() as client:
            self._first_drops(client)
            self._ask(client)
            self._second_drops(client)
            self._revert(client)
            killed_at = self._kill_while_training(client)
        self._start_again()
        with self._daemon.client() as client:
            self._resume(client, killed_at)
            self._story.step("Base against champions, on test rows that no training has seen")
            show_figures(client, self._story, self._waits)
        self._stop()

    def _start(self) -> None:
        story, daemon = self._story, self._daemon
        story.step("Start the daemon on an empty state folder")
        seconds = daemon.start()
        with daemon.client() as client:
            found = client.learning.GetStatus(learning_pb2.GetStatusRequest())
        story.say(
            f"adapterd {found.version} serves {found.base} ({found.quantization}, {found.device}) "
            f"at {found.address}, {seconds:.1f} s after its start"
        )

    def _first_drops(self, client: Client) -> None:
        story = self._story
        story.step("Drop the first data of both tasks: one file copied into the inbox, one handed over by command")
        self._copy_into_inbox(TICKETS, 1)
        self._hand_over(STYLE, 1)
        self._await({(TICKETS, 1), (STYLE, 1)}, client)
        story.command("adapterd list", self._daemon.command("list"))

    def _ask(self, client: Client) -> None:
        story = self._story
        story.step("Ask the base and both champions over gRPC")
        texts = [row["text"] for row in rows_of(TICKETS, "test") if row["label"] in ("billing", "access", "shipping")]
        notes = [row["input"] for row in rows_of(STYLE, "test")]
        rows = []
        for task, questions in ((TICKETS, texts[::12]), (STYLE, notes[:8:4])):
            for question in questions:
                ask = rewrite if task == STYLE else classify
                answer, base = ask(client, task, question), ask(client, "base", question)
                rows.append((question, _short(base.text), _short(answer.text), answer.source))
        story.table("Who answers what", ("asked", "the base says", "the champion says", "served by"), rows)
        story.check(all(row[3].endswith("@1") for row in rows), "every answer names version 1 as its source")

    def _second_drops(self, client: Client) -> None:
        story = self._story
        story.step("Drop the second data: tickets gets two new labels, house-style new areas and ticket numbers")
        self._copy_into_inbox(TICKETS, 2)
        # One after the other, so that it is known which of the two trains first.
        self._await_claim(client, TICKETS, 2)
        self._hand_over(STYLE, 2)
        self._await({(TICKETS, 2)}, client)
        show_what_was_kept(client, story, TICKETS)

    def _revert(self, client: Client) -> None:
        story = self._story
        story.step("Revert tickets while house-style is learning: the next answer comes from version 1")
        question = next(row["text"] for row in rows_of(TICKETS, "test") if row["label"] == "privacy")
        before = classify(client, TICKETS, question)
        moved = client.adapters.Revert(adapters_pb2.RevertRequest(task=TICKETS))
        after, pinned = classify(client, TICKETS, question), classify(client, f"{TICKETS}@1", question)
        rows = [("before", before.text, before.source), ("after", after.text, after.source)]
        story.table(question, ("", "label", "served by"), rows)
        story.check(before.source == f"{TICKETS}@2" and after.source == f"{TICKETS}@1", "the source went from 2 to 1")
        story.check(
            after.served_by.digest == pinned.served_by.digest and after.text == pinned.text,
            "the answer is that of the pinned tickets@1, by its digest too",
        )
        story.check(moved.seconds < 1.0, f"it took {moved.seconds * 1000:.0f} ms, without a restart")

    def _kill_while_training(self, client: Client) -> int:
        """Kill the daemon once a checkpoint lies on the disk; returns the step that the training had reached."""
        story = self._story
        story.step("Kill the daemon (SIGKILL) in the middle of the training of house-style")
        reached = story.follow(client, (STYLE,), _has_checkpoint)
        orphans = self._daemon.kill()
        told = details(reached)
        story.say(f"killed in phase {told['phase']} at step {told.get('step', '?')} of {told.get('steps', '?')}")
        story.check(not orphans, "the training process went with the daemon")
        return int(told.get("step", 0))

    def _start_again(self) -> None:
        story = self._story
        story.step("Start it again: what was served is served, what was being learned is finished")
        story.say(f"it answers {self._daemon.start():.1f} s after its start")

    def _resume(self, client: Client, killed_at: int) -> None:
        story = self._story
        answer = classify(client, TICKETS, "I was charged twice.")
        story.check(answer.source == f"{TICKETS}@1", "tickets is still served by version 1, as it was left")
        self._await({(STYLE, 2)}, client)
        version = client.adapters.GetVersion(adapters_pb2.GetVersionRequest(version=f"{STYLE}@2"))
        recipe = json.loads(version.manifest_json)["recipe"]
        jobs = client.learning.ListJobs(learning_pb2.ListJobsRequest(task=STYLE)).jobs
        job = max(jobs, key=lambda row: row.id)
        story.check(
            0 < recipe["resumed_at"] <= max(killed_at, recipe["steps"]),
            f"killed at step {killed_at}, resumed from the checkpoint of step {recipe['resumed_at']}, "
            f"finished at step {recipe['steps']}",
        )
        found = client.adapters.ListVersions(adapters_pb2.ListVersionsRequest(task=STYLE)).versions
        story.check(
            job.attempts == 2 and len(jobs) == 2 and sorted(row.version for row in found) == [1, 2],
            "one job in two attempts, one version: nothing was trained twice",
        )
        show_what_was_kept(client, story, STYLE)
        again = f"{TICKETS}@2"
        story.command(f"adapterd promote {again}", self._daemon.command("promote", again))
        story.command("adapterd list", self._daemon.command("list"))

    def _stop(self) -> None:
        story = self._story
        story.step("Stop the daemon (SIGTERM)")
        status = self._daemon.stop()
        story.check(status == 0, f"it drained and exited with status {status}")

    def _copy_into_inbox(self, task: str, number: int) -> None:
        source = DATA / task / f"drop-{number}.jsonl"
        self._dropped[task, number] = self._daemon.drop(task, source.name, source.read_bytes())
        shown = f"examples/{task}/{source.name}"
        self._story.command(f"cp {shown} inbox/{task}/", f"{len(rows_of(task, source.stem))} rows")

    def _hand_over(self, task: str, number: int) -> None:
        source = DATA / task / f"drop-{number}.jsonl"
        self._dropped[task, number] = time.time()
        printed = self._daemon.command("drop", task, str(source))
        self._story.command(f"adapterd drop {task} examples/{task}/{source.name}", printed)

    def _await_claim(self, client: Client, task: str, drops: int) -> None:
        """Wait until the daemon has taken so many files of a task out of the inbox. Raises `Failed`."""
        request = learning_pb2.ListDropsRequest(task=task)
        patience = time.monotonic() + _CLAIM_PATIENCE_S
        while len(client.learning.ListDrops(request).drops) < drops:
            if time.monotonic() > patience:
                raise Failed(f"the file lies in inbox/{task} and is not claimed")
            time.sleep(0.1)

    def _await(self, wanted: set[tuple[str, int]], client: Client) -> None:
        """Follow until each (task, version) wanted is its task's champion and its drop is done."""
        open_still = set(wanted)

        def seen(event: Event) -> bool:
            at = (event.task, event.version)
            if event.kind == "alias.moved" and at in self._dropped and at not in self._waits:
                self._waits[at] = event.time.ToMicroseconds() / 1e6 - self._dropped[at]
            if event.kind == "drop.done":
                open_still.discard(at)
            return not open_still

        self._story.follow(client, sorted({task for task, _ in wanted}, reverse=True), seen)
        tasks = client.adapters.ListTasks(adapters_pb2.ListTasksRequest()).tasks
        champions: Mapping[str, int] = {task.name: task.champion for task in tasks}
        for task, version in sorted(wanted):
            holds = champions.get(task) == version
            took = f", {self._waits[task, version]:.0f} s after the drop" if (task, version) in self._waits else ""
            self._story.check(holds, f"{task}@{version} passed the gate and is champion{took}")
            if not holds:
                raise Failed(f"{task}@{version} did not become champion")


def _short(text: str) -> str:
    """The beginning of an answer, on one line and without control characters."""
    return printable(" ".join(text.split()))[:70]


def _has_checkpoint(event: Event) -> bool:
    """Whether the training of house-style has passed a step at which a checkpoint was written."""
    if event.kind != PROGRESS or event.task != STYLE:
        return False
    told = details(event)
    return told["phase"] in ("fisher", "evaluating") or told.get("step", 0) > _CHECKPOINT_STEPS


def main() -> int:
    """Entry point; returns the exit status."""
    arguments = _arguments()
    assert set(LABELS) == {row["label"] for row in rows_of(TICKETS, "test")}
    given = arguments.state is not None
    state: Path = arguments.state or Path(tempfile.mkdtemp(prefix="adapterd-demo-"))
    if given and state.exists() and any(state.iterdir()):
        print(f"{state} is not empty; name a new folder with --state, or none", file=sys.stderr)
        return 2
    share_bases(state, arguments.bases)
    # A demo that is told to end takes its daemon with it: the exception leads through the `finally` below.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(128 + signal.SIGTERM))
    daemon, story = DaemonProcess(state, {"base": arguments.base, **_SETTINGS}), Story()
    try:
        Demo(daemon, story).run()
    except (Failed, DaemonError, RuntimeError) as error:
        hint = getattr(error, "hint", "")
        story.check(False, f"{error}{f' ({hint})' if hint else ''}")
    finally:
        status = daemon.stop()
        story.check(status == 0, f"the daemon ended with status {status}") if status else None
        if story.failures:
            story.say(f"\nThe daemon's log ends:\n{daemon.log_tail()}")
        if arguments.keep or given:
            story.say(f"\nEverything that the daemon wrote is in {state}")
        else:
            shutil.rmtree(state)
    return _conclude(story)


def _conclude(story: Story) -> int:
    if story.failures:
        story.say(f"\nFailed after {story.minutes}:")
        for failure in story.failures:
            story.say(f"  - {failure}")
        return 1
    story.say(f"\nAll of it held, in {story.minutes} minutes.")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument("--state", type=Path, metavar="DIR", help="an empty folder for the daemon; it is kept")
    parser.add_argument("--keep", action="store_true", help="keep the temporary state folder")
    parser.add_argument("--base", default="smollm2-135m", help="embedded base, local folder or hub id")
    known = os.environ.get("ADAPTERD_TEST_BASES")
    parser.add_argument(
        "--bases",
        type=Path,
        metavar="DIR",
        default=Path(known) if known else None,
        help="where an embedded base is kept and looked for; default: $ADAPTERD_TEST_BASES, else in the state",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
