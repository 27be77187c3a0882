"""What the audit finds of faults that were planted, and what it costs.

    python -m benchmarks.audit --data DIR
    python -m benchmarks.audit --rows FILE --plant SEED

Real data sets get faults in 5 % of their rows each: repeated rows, near repeats, contradictions, wrong labels, rows of
an earlier drop's held-out part, e-mail addresses and card numbers, keys and tokens. Recall is the share of them that is
found, precision the share of findings that were planted. What is found in the set as it was before planting is no
answer about either and is left out, except for labels, where every finding counts.
"""

import json
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from adapterd.continual.audit.auditing import Drop, audit
from adapterd.continual.audit.findings import Concern
from adapterd.continual.audit.repeats import Known, Side
from adapterd.continual.examples import parse_file, parse_row
from adapterd.continual.rows import Limits
from adapterd.daemon.audit_process import AuditProcess
from adapterd.daemon.auditing import Reading
from adapterd.daemon.errors import AuditorFailed
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.arguments import names_of
from benchmarks.arguments import parser as benchmark_parser
from benchmarks.malformed import malformed, parquet_bomb
from benchmarks.planting import Planted, Row, plant
from benchmarks.report import Report, console

SETS = {
    "trec6": "trec6/train.jsonl",
    "sms_spam": "sms_spam/train.jsonl",
    "banking77": "banking77/train.jsonl",
    "dolly2k": "instruct_dolly2k/train.jsonl",
}
# (lowest recall, lowest precision) that is asked for.
TARGETS = {
    Concern.DUPLICATE: (0.95, 0.90),
    Concern.NEAR_DUPLICATE: (0.95, 0.90),
    Concern.CONTRADICTION: (0.95, 0.90),
    Concern.LEAK: (0.95, 0.90),
    Concern.PERSONAL: (0.95, 0.90),
    Concern.SECRET: (0.95, 0.90),
    Concern.LABEL_NOISE: (0.70, 0.60),
}
PARTS = ("planted", "speed", "files")
SPEED_ROWS = 100_000
BOMBS = 5
# What a file is read with here; the daemon's default is twice that.
FILE_MEMORY, FILE_SECONDS = 1 << 30, 60.0


def read(path: Path) -> list[Row]:
    """The rows of a JSONL file, all of their values texts."""
    return [{name: str(value) for name, value in json.loads(line).items()} for line in path.open(encoding="utf-8")]


def findings_of(rows: Sequence[Row], judged_by: Iterable[Row], folder: Path) -> dict[Concern, set[int]]:
    """The lines that the audit names, by concern, of the rows written to a file and read as a dropped one."""
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    parsed = parse_file(file, Limits(), len(rows))
    history = [Known(1, parse_row(row), Side.HELD_OUT) for row in judged_by]
    found: dict[Concern, set[int]] = defaultdict(set)
    for finding in audit(Drop(parsed.examples, parsed.duplicates, history=history), region="US").report.findings:
        found[finding.concern].add(finding.line)
    return found


def scores(planted: Planted, folder: Path) -> dict[Concern, tuple[float, float]]:
    """(recall, precision) by concern."""
    natives = findings_of(planted.clean, planted.judged_by, folder)
    said = findings_of(planted.rows, planted.judged_by, folder)
    found: dict[Concern, tuple[float, float]] = {}
    for concern, places in planted.places.items():
        if concern is Concern.LABEL_NOISE:
            right, counted = planted.relabelled, said[concern]
        else:
            native = natives[concern]
            copies = {place for place, source in planted.sources.items() if source in native}
            right, counted = places, said[concern] - ((native | copies) - places)
        found[concern] = len(said[concern] & places) / len(places), len(counted & right) / max(1, len(counted))
    return found


def measure_speed(rows: Sequence[Row], folder: Path) -> tuple[float, float]:
    """(seconds, peak MB) of parsing and auditing a file of rows made of halves of `rows`, in a process of its own."""
    random = Random(0)
    file = folder / "many.jsonl"
    with file.open("w", encoding="utf-8") as lines:
        for _ in range(SPEED_ROWS):
            (head, row), number = random.choices(rows, k=2), random.randrange(SPEED_ROWS)
            words, others = head["text"].split(), row["text"].split()
            text = " ".join([*words[: len(words) // 2], str(number), *others[len(others) // 2 :]])
            lines.write(json.dumps({**row, "text": text}) + "\n")
    began = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.audit", "--data", ".", "--parts", "one", "--rows", str(file)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return time.perf_counter() - began, float(done.stdout.split()[-1])


def audit_one(file: Path) -> int:
    """Audit one file, with its phases on standard error, and print the peak of this process's memory in MB."""
    parsed = parse_file(file, Limits(), 0)

    def say(phase: str, share: float) -> None:
        print(f"{share:4.0%} {phase}", file=sys.stderr)

    audit(Drop(parsed.examples, parsed.duplicates), region="US", say=say)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return 0


def read_malformed(count: int, seed: int, folder: Path, screen: Console) -> tuple[Counter[str], float]:
    """Outcomes of reading malformed files in the auditing process, and the peak of its memory in MB."""
    process, outcomes = AuditProcess(), Counter[str]()
    files = chain(malformed(count - BOMBS, seed), (parquet_bomb(bomb) for bomb in range(BOMBS)))
    for number, file in enumerate(track(files, "reading malformed files", count, console=screen, transient=True)):
        path = folder / file.name
        path.write_bytes(file.content)
        request = Reading("t", number, str(folder / "data"), str(folder / "bad"), str(path), {}, 100, [], "", "")
        answer: dict[str, Any] | None
        try:
            process.ask({"read": asdict(request)}, memory_bytes=FILE_MEMORY, seconds=FILE_SECONDS)
            while (answer := process.answer(1.0)) is None:
                pass
        except AuditorFailed as error:
            answer = {"fault": error.message}
        if "fault" in answer:
            outcomes["crashed"] += 1
            screen.print(f"{file.name}: {answer['fault'][:200]}")
        elif "refused" in answer:
            outcomes["refused" if len(answer["refused"]) > len(file.name) else "without a reason"] += 1
        else:
            done: dict[str, Any] = answer["done"]
            outcomes["read" if done["rows"] + done["bad_rows"] else "lost"] += 1
        path.unlink()
        shutil.rmtree(folder / "data", ignore_errors=True)
    # Linux keeps the peak; it counts what children of it, which decode Parquet, never had.
    status = Path(f"/proc/{process.pid}/status").read_text("utf-8")
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    process.stop()
    return outcomes, peak / 1024


def main() -> int:
    """Entry point; returns 0 if every target is met."""
    parser = benchmark_parser("audit", __doc__)
    parser.add_argument("--rows", type=Path, metavar="FILE", help="a JSONL file of your own instead of the named sets")
    parser.add_argument("--plant", type=int, metavar="SEED", default=0, help="seed of what is planted where")
    parser.add_argument("--files", type=int, metavar="N", default=5000, help="how many malformed files")
    parser.add_argument("--parts", type=names_of((*PARTS, "one")), default=list(PARTS), help=", ".join(PARTS))
    arguments = parser.parse_args()
    if arguments.parts == ["one"]:
        return audit_one(arguments.rows)
    screen, report = console(), Report("audit")
    files = {"yours": arguments.rows} if arguments.rows else {name: arguments.data / SETS[name] for name in SETS}
    with TemporaryDirectory() as temp:
        if "planted" in arguments.parts:
            found = {
                name: scores(plant(read(file), arguments.plant), Path(temp))
                for name, file in track(files.items(), "auditing what was planted", console=screen, transient=True)
            }
            screen.print(table_of(found))
            for concern, (recall, precision) in TARGETS.items():
                of_sets = [scored[concern] for scored in found.values() if concern in scored]
                if of_sets:
                    key, name = f"audit_{concern.name.lower()}", concern.value
                    least = min(one for one, _ in of_sets), min(one for _, one in of_sets)
                    report.add(f"{key}_recall", f"{name}: lowest recall of a set", least[0], at_least=recall)
                    report.add(f"{key}_precision", f"{name}: lowest precision of a set", least[1], at_least=precision)
        if "speed" in arguments.parts:
            seconds, megabytes = measure_speed(read(next(iter(files.values()))), Path(temp))
            report.add("audit_seconds", f"seconds to read and audit {SPEED_ROWS:,} rows", seconds, at_most=60)
            report.add("audit_megabytes", "peak memory of that process, MB", megabytes, at_most=1024)
        if "files" in arguments.parts:
            outcomes, peak = read_malformed(arguments.files, arguments.plant, Path(temp), screen)
            screen.print(", ".join(f"{count:,} {what}" for what, count in sorted(outcomes.items())))
            for what in ("crashed", "lost", "without a reason"):
                key = f"audit_files_{what.replace(' ', '_')}"
                report.add(key, f"of {arguments.files:,} malformed files {what}", outcomes[what], at_most=0)
            report.add("audit_files_megabytes", "peak memory of the process that read them, MB", peak, at_most=1024)
    return report.end(screen, arguments.json)


def table_of(found: Mapping[str, Mapping[Concern, tuple[float, float]]]) -> Table:
    """Recall and precision of each concern in each set."""
    table = Table("concern", *found, title="recall / precision", title_justify="left")
    for concern in TARGETS:
        cells = ["{:.3f} / {:.3f}".format(*scored[concern]) if concern in scored else "" for scored in found.values()]
        table.add_row(concern.value, *cells)
    return table


if __name__ == "__main__":
    sys.exit(main())
