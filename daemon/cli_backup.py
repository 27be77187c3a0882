"""Commands that copy the state away and back: backup and restore."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .cli_daemon import PANEL
from .cli_options import Address, AsJson, ConfigFile, whereabouts
from .render import errors, print_document, put, size, transfer_bar

if TYPE_CHECKING:
    from .backup import Backup, Report

commands = typer.Typer()


@commands.command("backup", rich_help_panel=PANEL)
def backup_command(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is not there yet.", show_default=False)],
    as_json: AsJson = False,
    config: ConfigFile = None,
    address: Address = None,
) -> None:
    """Copy ledger, versions and rows to a folder, whole and consistent, while the daemon runs."""
    settings = whereabouts(context, config, address).settings()
    from .backup import back_up  # noqa: PLC0415 - brings the ledger, and with it scipy

    with _progress("copying") as report:
        found = back_up(settings.state.absolute(), settings.inbox_dir, folder.absolute(), report)
    _tell(found, f"backed up to {folder}", as_json)


@commands.command("restore", rich_help_panel=PANEL)
def restore_command(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `backup` made.", show_default=False)],
    as_json: AsJson = False,
    config: ConfigFile = None,
    address: Address = None,
) -> None:
    """Put a backup into a state folder that has no ledger, with no daemon on it."""
    settings = whereabouts(context, config, address).settings()
    from .backup import restore  # noqa: PLC0415

    with _progress("restoring") as report:
        found = restore(folder.absolute(), settings.state.absolute(), settings.inbox_dir, report)
    _tell(found, f"restored to {settings.state}", as_json)


@contextmanager
def _progress(what: str) -> "Iterator[Report]":
    """A bar on a terminal."""
    with transfer_bar(errors()) as bar:
        task = bar.add_task(what, total=None)

        def report(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield report


def _tell(found: "Backup", said: str, as_json: bool) -> None:
    if as_json:
        print_document(asdict(found))
        return
    taken = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.created))
    put(f"{said}: {found.versions} versions, {found.drops} drops, {size(found.bytes)}, as of {taken}")
