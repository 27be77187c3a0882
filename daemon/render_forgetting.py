"""What is to be forgotten, and who has learned from it, on a screen."""

from collections.abc import Sequence

from adapterd.v1 import learning_pb2
from rich.console import RenderableType
from rich.table import Table

from .render import printable, screens, table, words


def found(rows: Sequence[learning_pb2.ForgetResponse.Found]) -> RenderableType:
    """The drops, and how many rows of each."""
    kept = [row for row in rows if row.rows or row.bad_rows or not row.unsearched]
    shown = table(
        ("TASK", "DROP", "FILE", "ROWS", "LEARNED FROM", "JUDGED BY", "BAD"),
        (
            (
                row.task,
                str(row.drop),
                printable(row.filename),
                f"{row.rows:,}",
                f"{row.learned:,}",
                f"{row.judged:,}",
                f"{row.bad_rows:,}",
            )
            for row in kept
        ),
        right=("DROP", "ROWS", "LEARNED FROM", "JUDGED BY", "BAD"),
    )
    more = [
        f"the file of drop {row.drop} may hold more: `--drop {row.drop}` removes all of it"
        for row in rows
        if row.unsearched
    ]
    return screens(shown if kept else "no row that is kept has it", *more)


def saw(versions: Sequence[learning_pb2.ForgetResponse.Saw]) -> Table | str:
    """The versions that have learned from rows that are forgotten, or will be."""
    if not versions:
        return "no version has learned from them"
    return table(
        ("VERSION THAT LEARNED FROM THEM", "ALIASES", "DROPS"),
        ((f"{row.task}@{row.version}", words(row.aliases), ", ".join(map(str, row.drops))) for row in versions),
    )


def retraining(done: learning_pb2.RetrainResponse) -> str:
    """What was gone back to, and what is learned again."""
    deleted = ", ".join(f"{done.task}@{version}" for version in done.deleted)
    champion = f"{done.task}@{done.champion} is champion" if done.champion else f"{done.task} has no champion"
    drops = ", ".join(map(str, done.drops))
    again = f"until drops {drops} are learned again" if drops else "and nothing is left to learn again"
    return f"{deleted} deleted; {champion} {again}"
