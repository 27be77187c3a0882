"""What every benchmark may be told: where its data and its base are, where the figures go."""

import argparse
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

WORK: Final = Path(".cache/learning")
"""Where benchmarks that can be interrupted keep what is finished."""


def parser(
    name: str, doc: str | None, *, data: bool = True, bases: Path | None = Path(".cache/bases")
) -> argparse.ArgumentParser:
    """A parser of `python -m benchmarks.NAME` with `--data` (unless it reads none), `--json`, `--base` and `--bases`.

    `doc` is the module's, whose first line says what it is. `bases` is where an embedded base is kept unless
    `$ADAPTERD_TEST_BASES` says otherwise; None leaves it to the daemon.
    """
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=(doc or "").partition("\n")[0])
    where, known = os.environ.get("ADAPTERD_BENCH_DATA"), os.environ.get("ADAPTERD_TEST_BASES")
    if data:
        made.add_argument(
            "--data",
            type=Path,
            metavar="DIR",
            default=Path(where or "."),
            required=not where,
            help="the folder of data sets; default: $ADAPTERD_BENCH_DATA; benchmarks/README.md says where to get them",
        )
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    made.add_argument("--base", default="smollm2-135m", help="embedded base, local folder or hub id")
    made.add_argument(
        "--bases",
        type=Path,
        metavar="DIR",
        default=Path(known) if known else bases,
        help="where an embedded base is kept and looked for; default: $ADAPTERD_TEST_BASES, "
        f"else {bases or 'in the state'}",
    )
    return made


def names_of(known: Collection[str]) -> Callable[[str], list[str]]:
    """For an option's `type`: names with commas between, each of `known`."""

    def names(text: str) -> list[str]:
        found = text.split(",")
        if unknown := [name for name in found if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
        return found

    return names
