"""`adapterd tune`: better hyper-parameters for one task, found by trying."""

import contextlib
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from . import environment
from .cli_options import Address, AsJson, ConfigFile, Task, whereabouts
from .config import Settings, load_task_settings
from .errors import ConfigError, NotAllowed
from .render import errors, print_document, put, table

if TYPE_CHECKING:
    from .tuning import Found, Trial

_PANEL = "Data"

commands = typer.Typer()


@commands.command(rich_help_panel=_PANEL)
def tune(
    context: typer.Context,
    task: Task,
    minutes: Annotated[
        float, typer.Option("--minutes", metavar="M", min=0.0, help="Begin no trial after so long.")
    ] = 30.0,
    trials: Annotated[
        int | None, typer.Option("--trials", metavar="N", min=1, help="So many at most.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing.")] = False,
    as_json: AsJson = False,
    config: ConfigFile = None,
    address: Address = None,
) -> None:
    """Search a task's rank, learning rate and replay share; write the winner to its task.toml.

    Its last drops are learned over again, on this machine and beside the daemon, whose work takes longer meanwhile.
    """
    settings = whereabouts(context, config, address).settings()
    missing = [name for name in ("optuna", "tomlkit") if find_spec(name) is None]
    if missing:
        raise ConfigError(f"tuning needs {' and '.join(missing)}", hint="pip install 'adapterd[tune]'")
    found = _search(settings, task, minutes, trials)
    path = settings.inbox_dir / task / "task.toml"
    written = found.better and not dry_run
    if written:
        from .tuning import write_settings  # noqa: PLC0415

        before = found.trials[0].loss
        day = time.strftime("%Y-%m-%d")
        why = f"`adapterd tune`, {day}: loss {found.best.loss:.3f}, {before:.3f} before, {len(found.trials)} trials"
        write_settings(path, found.best.settings, why)
    if as_json:
        print_document(
            {
                "task": task,
                "trials": [{**trial.settings, "loss": trial.loss} for trial in found.trials],
                "best": found.best.settings,
                "p_value": found.p_value,
                "written": str(path) if written else None,
            }
        )
        return
    put(_table(found))
    if written:
        put(f"written to {path}; the next drop of {task} is learned with it")
    elif found.better:
        put(f"nothing is written, as you said; the best trial is better than what is set (p = {found.p_value:.2g})")
    else:
        put(f"what is set stays: no trial is better by more than chance (p = {found.p_value:.2g})")


def _search(settings: Settings, task: str, minutes: float, trials: int | None) -> "Found":
    environment.set_unless_told(environment.TRAINING)
    from ..adapters.base import load_base  # noqa: PLC0415 - brings torch, seconds that no other command should pay
    from ..adapters.store import Store  # noqa: PLC0415
    from ..continual.recipe import Hyperparameters  # noqa: PLC0415
    from .bases import find_base, general_file  # noqa: PLC0415
    from .dataset import Dataset  # noqa: PLC0415
    from .ledger import LEDGER_NAME, Ledger  # noqa: PLC0415
    from .tuning import question, search  # noqa: PLC0415

    if not (settings.state / LEDGER_NAME).is_file():
        raise NotAllowed(f"there is no ledger in {settings.state}", hint="run it where the daemon keeps its state")
    hp = Hyperparameters(**load_task_settings(settings, task).training.model_dump())
    with contextlib.closing(Ledger(settings.state / LEDGER_NAME)) as ledger:
        store = Store(settings.state / "adapters")
        asked = question(ledger, store, Dataset.below(settings.state), task, hp.seed)
    installed = find_base(settings.state / "bases", settings.base, settings.base_revision)
    if installed is None:
        raise NotAllowed(f"the base {settings.base} is not there", hint="`adapterd base pull` fetches it")
    environment.give_way(settings.trainer.nice, idle=settings.trainer.idle)
    base = load_base(installed.folder, quantization=settings.quantization, device=settings.serving.device)
    with _bar() as (report, tried):
        return search(
            asked,
            base,
            hp,
            general=general_file(settings.state, base.fingerprint),
            seconds=60 * minutes,
            trials=trials,
            report=report,
            tried=tried,
        )


@contextlib.contextmanager
def _bar() -> Iterator[tuple[Callable[[int, float], None], Callable[["Trial"], None]]]:
    """A bar for the trial that runs, and a line for each that has ended."""
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), console=errors()
    )
    with progress:
        meter = progress.add_task("trial 1: what is set", total=1.0)

        def report(trial: int, share: float) -> None:
            progress.update(meter, description=f"trial {trial + 1}{'' if trial else ': what is set'}", completed=share)

        def tried(trial: "Trial") -> None:
            progress.console.print(f"loss {trial.loss:.3f} with {_said(trial)}")

        yield report, tried


def _said(trial: "Trial") -> str:
    return ", ".join(f"{name} {value:g}" for name, value in trial.settings.items())


def _table(found: "Found") -> Table:
    """Every trial: its settings, and the loss on rows that it did not learn, in nats a token."""
    names = list(found.trials[0].settings)
    rows = []
    for place, trial in enumerate(found.trials):
        marks = (["what is set"] if not place else []) + (["best"] if trial is found.best else [])
        rows.append((*(f"{trial.settings[name]:g}" for name in names), f"{trial.loss:.4f}", ", ".join(marks)))
    headings = [*(name.upper() for name in names), "LOSS"]
    return table((*headings, ""), rows, right=headings)
