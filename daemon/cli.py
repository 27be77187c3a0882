"""`adapterd`: the command line. Everything but `serve` talks to the daemon over its socket.

Exit status: 0 done, 1 failed (with a message and what to do about it on standard error), 2 wrong usage, 130 Ctrl-C.
"""

import importlib.metadata
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Annotated, Final, NoReturn

# gRPC notes on standard error that a daemon ended, which we say ourselves; it reads this when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

import typer
from rich.text import Text

from ..adapters.errors import ServingError
from ..continual.errors import LearningError
from . import (
    cli_access,
    cli_backup,
    cli_daemon,
    cli_data,
    cli_exchange,
    cli_forget,
    cli_inference,
    cli_tune,
    cli_versions,
)
from .cli_options import Address, ConfigFile, Whereabouts
from .errors import DaemonError
from .render import errors, printable

INTERRUPTED: Final = 130
"""Exit status after Ctrl-C: 128 and the number of SIGINT, as shells have it."""

_UNWIND_S: Final = 1.0  # seconds; enough to remove what a broken export left

app = typer.Typer(
    name="adapterd",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # its traces show local variables, and with them people's data
    context_settings={"help_option_names": ["--help", "-h"]},
)
_PARTS: Final = (
    cli_daemon,
    cli_access,
    cli_backup,
    cli_data,
    cli_forget,
    cli_versions,
    cli_exchange,
    cli_inference,
    cli_tune,
)
for part in _PARTS:
    app.add_typer(part.commands)
app.add_typer(cli_daemon.config_commands, name="config", rich_help_panel=cli_daemon.PANEL)
app.add_typer(cli_access.token_commands, name="token", rich_help_panel=cli_daemon.PANEL)
app.add_typer(cli_daemon.base_commands, name="base", rich_help_panel=cli_daemon.PANEL)


def _print_version(wanted: bool) -> None:
    if wanted:
        try:
            version = importlib.metadata.version("adapterd")
        except importlib.metadata.PackageNotFoundError:
            version = "(run from a checkout that is not installed)"
        typer.echo(f"adapterd {version}")
        raise typer.Exit


@app.callback()
def adapterd(
    context: typer.Context,
    config: ConfigFile = None,
    address: Address = None,
    version: Annotated[  # noqa: ARG001 - its callback has printed it
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """A daemon that keeps LoRA adapters learning: drop data in a folder, get a better version served."""
    context.obj = Whereabouts(config, address)


def run(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say (those of the process if None) and return the exit status; nothing is raised for
    what a person may do wrong or meet.
    """
    try:
        app(arguments if arguments is None else list(arguments), prog_name="adapterd")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except (DaemonError, ServingError, LearningError) as error:
        status = _explain(error)
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BrokenPipeError:
        status = 1
    except OSError as error:  # a folder that may not be written to, a full disk
        status = _explain(DaemonError(str(error), hint="see to that and try again"))
    return _flushed(status)


def main() -> NoReturn:
    """Entry point of the process."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # and not ignored, as behind `nohup`
        signal.signal(signal.SIGINT, _interrupt)
    sys.exit(run())


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """Ctrl-C: unwind, and end soon even if something waits on the way.

    gRPC does: a call that an exception meets while it is being made never ends, and closing its channel, or letting go
    of it, waits for that.
    """
    signal.signal(signal.SIGALRM, lambda _number, _frame: os._exit(INTERRUPTED))
    signal.setitimer(signal.ITIMER_REAL, _UNWIND_S)
    raise KeyboardInterrupt


def _explain(error: DaemonError | ServingError | LearningError) -> int:
    """Say what happened and what to do about it, on standard error."""
    screen = errors()
    screen.print(Text.assemble(("error: ", "bold red"), printable(error.message, lines=True)), soft_wrap=True)
    if error.hint:
        screen.print(Text.assemble(("hint: ", "bold"), printable(error.hint, lines=True)), soft_wrap=True)
    return 1


def _flushed(status: int) -> int:
    """`status`, or 1 if whoever read our output is gone: the interpreter would complain of it at its end."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


if __name__ == "__main__":
    main()
