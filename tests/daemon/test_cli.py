"""The command line as a whole: what it offers, how it ends, what it says on the way."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from adapterd.daemon import cli
from adapterd.daemon.errors import NotRunning
from typer.main import get_command

from .cli_runner import CommandLine, Ended
from .fake_daemon import FakeDaemon, event, version

ROOT = Path(__file__).parents[2]

CONTRACT = {
    *("serve", "status", "doctor", "config check", "base pull", "base list"),
    *("drop", "tasks", "drops", "release", "cancel", "sample", "events", "tune"),
    *("list", "show", "diff", "revert", "promote", "pin", "delete", "export", "import"),
    *("query", "feedback", "report"),
    *("forget", "backup", "restore"),
    *("token new", "token list", "token remove", "audit-log"),
}

SHARED = {"--config", "--address", "--json", "--help", "-h"}


def walk(command: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its name."""
    for name, part in getattr(command, "commands", {}).items():
        if hasattr(part, "commands"):
            yield from walk(part, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", part


def options(command: Any) -> set[str]:
    """Every spelling of every option of a command."""
    return {
        spelling
        for parameter in command.params
        if parameter.param_type_name == "option"
        for spelling in (*parameter.opts, *parameter.secondary_opts)
    }


COMMANDS = dict(walk(get_command(cli.app)))


def section(name: str) -> str:
    """What docs/command-line.md says of a command."""
    text = (ROOT / "docs" / "command-line.md").read_text("utf-8")
    found = re.search(rf"^### `adapterd {re.escape(name)}\b.*?(?=^##)", text + "\n##", re.MULTILINE | re.DOTALL)
    assert found, f"docs/command-line.md has no section on `adapterd {name}`"
    return found.group()


def with_modules() -> dict[str, str]:
    """An environment in which another interpreter finds the modules that this one does."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def python(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=with_modules())


def test_every_command_of_the_contract_exists_and_no_other() -> None:
    assert set(COMMANDS) == CONTRACT


@pytest.mark.parametrize("name", sorted(CONTRACT))
def test_every_command_takes_config_and_address_and_explains_itself(name: str) -> None:
    assert {"--config", "--address"} <= options(COMMANDS[name])
    assert COMMANDS[name].help


@pytest.mark.parametrize("name", sorted(CONTRACT - {"serve"}))
def test_every_command_but_serve_prints_json(name: str) -> None:
    assert "--json" in options(COMMANDS[name])


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_option_and_argument_is_documented(name: str) -> None:
    text = section(name)
    missing = sorted(spelling for spelling in options(COMMANDS[name]) - SHARED if f"`{spelling}" not in text)
    assert not missing
    heading = text.splitlines()[0]
    for parameter in COMMANDS[name].params:
        if parameter.param_type_name == "argument" and parameter.metavar not in ("PROMPT", "TASK@VERSION|DROP"):
            assert parameter.metavar.strip("[]") in heading


def test_what_all_commands_share_is_documented() -> None:
    text = (ROOT / "docs" / "command-line.md").read_text("utf-8")
    common = text[: text.index("## The daemon")]
    for spelling in SHARED | options(get_command(cli.app)):
        assert spelling in common


def test_documentation_speaks_of_no_command_that_does_not_exist() -> None:
    text = (ROOT / "docs" / "command-line.md").read_text("utf-8")
    named = {line.removeprefix("### `adapterd ").split("`")[0] for line in text.splitlines() if line.startswith("### ")}
    assert {re.sub(r" (TASK|DROP|REQUEST|DIR|NAME|\[TASK\]).*", "", name) for name in named} == CONTRACT


@pytest.mark.parametrize("name", sorted(CONTRACT))
def test_help_of_every_command_works(alone: CommandLine, name: str) -> None:
    ended = alone(*name.split(), "--help")
    assert ended.status == 0
    assert "Usage" in ended.out


def test_help_starts_without_the_libraries_of_the_daemon() -> None:
    heavy = ("torch", "transformers", "peft", "bitsandbytes", "scipy", "pyarrow", "apscheduler", "matplotlib")
    code = (
        "import sys\n"
        "from adapterd.daemon.cli import run\n"
        "assert run(['--help']) == 0\n"
        "assert run(['list', '--help']) == 0\n"
        f"sys.stderr.write(' '.join(sorted(set({heavy!r}) & set(sys.modules))))\n"
    )
    ended = python(code)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_asking_the_daemon_needs_none_of_its_libraries(fake: FakeDaemon) -> None:
    code = (
        "import sys\n"
        "from adapterd.daemon.cli import run\n"
        f"assert run(['list', '--address', {fake.address!r}]) == 0\n"
        "sys.stderr.write(' '.join(sorted({'torch', 'transformers', 'peft'} & set(sys.modules))))\n"
    )
    ended = python(code)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "mood@2" in ended.stdout


def test_address_may_stand_before_or_after_the_command(alone: CommandLine, fake: FakeDaemon) -> None:
    for arguments in (["--address", fake.address, "tasks"], ["tasks", "--address", fake.address]):
        assert "mood@2" in alone(*arguments).out


def test_address_after_the_command_wins_over_the_one_before(
    alone: CommandLine, fake: FakeDaemon, tmp_path: Path
) -> None:
    ended = alone("--address", f"unix:{tmp_path}/nobody.sock", "tasks", "--address", fake.address)
    assert ended.status == 0


def test_address_comes_from_the_environment_before_the_configuration(
    alone: CommandLine, fake: FakeDaemon, tmp_path: Path
) -> None:
    (tmp_path / "adapterd.toml").write_text(f'address = "unix:{tmp_path}/nobody.sock"')
    alone.patch.setenv("ADAPTERD_ADDRESS", fake.address)
    assert alone("tasks").status == 0


def test_address_comes_from_the_configuration_if_nothing_else_names_one(
    alone: CommandLine, fake: FakeDaemon, tmp_path: Path
) -> None:
    (tmp_path / "mine.toml").write_text(f'address = "{fake.address}"')
    assert alone("tasks", "--config", tmp_path / "mine.toml").status == 0
    assert alone("--config", tmp_path / "mine.toml", "tasks").status == 0
    assert alone("tasks").status == 1


def test_broken_configuration_does_not_keep_a_named_daemon_away(
    alone: CommandLine, fake: FakeDaemon, tmp_path: Path
) -> None:
    (tmp_path / "adapterd.toml").write_text("no toml")
    assert alone("tasks", "--address", fake.address).status == 0
    assert alone("tasks").status == 1


def test_absent_daemon_is_a_message_with_a_hint(alone: CommandLine, tmp_path: Path) -> None:
    ended = alone("tasks", "--address", f"unix:{tmp_path}/nobody.sock")
    assert ended.status == 1
    assert ended.out == ""
    assert ended.err.startswith("error: no daemon answers")
    assert "hint: " in ended.err
    assert "adapterd serve" in ended.err


def test_error_of_the_daemon_is_its_message_and_hint(adapterd: CommandLine) -> None:
    ended = adapterd("query", "mood@9", "hello")
    assert (ended.status, ended.out) == (1, "")
    assert ended.err == "error: there is no mood@9\nhint: `adapterd list` shows all\n"


def test_error_does_not_steer_the_terminal(alone: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise NotRunning("\x1b]0;owned\x07 [red]no[/red]", hint="line\nline")

    monkeypatch.setattr(cli, "app", fail)
    ended = alone("tasks")
    assert "\x1b" not in ended.err
    assert "[red]no[/red]" in ended.err


def test_file_that_cannot_be_written_is_a_message(adapterd: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = adapterd("export", "mood@2", tmp_path / "file" / "below")
    assert ended.status == 1
    assert ended.err.startswith("error: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["list", "--nonsense"],
        ["list", "Not a task"],
        ["list", "base"],
        ["show"],
        ["show", "mood@0"],
        ["show", "base"],
        ["release", "zero"],
        ["release", "0"],
        ["promote", "mood"],
        ["delete", "mood", "--yes"],
        ["delete", "mood@champion", "--yes"],
        ["revert", "mood", "--to", "0"],
        ["drop", "mood", "no-such-file.jsonl"],
        ["import", "mood", "no-such-folder"],
        ["query", "mood", "hi", "--choices", "a,,b"],
        ["query", "mood", "hi", "--choices", "a,a"],
        ["query", "mood", "hi", "--choices", "a,b", "--max-tokens", "3"],
        ["query", "mood", "hi", "--json", "--stream"],
        ["query", "mood", "hi", "--temperature", "-1"],
        ["query", "mood", "hi", "--max-tokens", "0"],
        ["query", "mood", "lone surrogate \udcff"],
        ["events", "--last", "-1"],
    ],
)
def test_wrong_usage_exits_2_and_asks_nobody(adapterd: CommandLine, fake: FakeDaemon, arguments: list[str]) -> None:
    ended = adapterd(*arguments)
    assert ended.status == 2
    assert ended.out == ""
    assert "Error" in ended.err
    assert fake.requests == []


def test_no_command_shows_the_help(alone: CommandLine) -> None:
    ended = alone()
    assert "Usage" in ended.out + ended.err
    assert ended.status in (0, 2)  # click changed its mind in 8.2


def test_version_is_printed(alone: CommandLine) -> None:
    ended = alone("--version")
    assert ended.status == 0
    assert ended.out.startswith("adapterd ")


def test_ctrl_c_exits_130_without_a_trace(alone: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupt)
    assert alone("tasks") == Ended(130, "", "")


def test_ctrl_c_ends_a_followed_stream_with_130_and_no_trace(fake: FakeDaemon) -> None:
    fake.events = [event(1, "drop.claimed", "drop 1 came")]
    # Where the tests run in the background of a shell, SIGINT is ignored, and a child would inherit that.
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        following = subprocess.Popen(
            [sys.executable, "-m", "adapterd.daemon.cli", "events", "-f", "--json", "--address", fake.address],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=with_modules(),
        )
    finally:
        signal.signal(signal.SIGINT, ours)
    assert following.stdout is not None
    assert b"drop 1 came" in following.stdout.readline()
    following.send_signal(signal.SIGINT)
    _, err = following.communicate(timeout=20)
    assert (following.returncode, err) == (130, b"")


def test_closed_pipe_is_no_trace(fake: FakeDaemon) -> None:
    fake.versions = {number: version(number, manifest_json="", reason="x" * 2000) for number in range(1, 200)}
    command = f"'{sys.executable}' -m adapterd.daemon.cli list --json --address '{fake.address}' | head -n 1"
    ended = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        check=False,
        env=with_modules(),
    )
    assert (ended.stdout, ended.stderr) == (b"{\n", b"")


def completions(command: CommandLine, words: str) -> list[str]:
    """What bash would offer after these words."""
    command.patch.setenv("_ADAPTERD_COMPLETE", "complete_bash")
    command.patch.setenv("COMP_WORDS", words)
    command.patch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    ended = command()
    assert ended.err == ""
    return ended.out.split()


def test_completion_knows_commands_and_tasks(alone: CommandLine, fake: FakeDaemon) -> None:
    assert completions(alone, "adapterd prom") == ["promote"]
    assert completions(alone, f"adapterd revert --address {fake.address} m") == ["mood"]
    assert completions(alone, f"adapterd --address {fake.address} revert m") == ["mood"]
    alone.patch.setenv("ADAPTERD_ADDRESS", fake.address)
    assert completions(alone, "adapterd list m") == ["mood"]
    assert completions(alone, "adapterd list x") == []


def test_completion_is_silent_where_no_daemon_answers(alone: CommandLine, tmp_path: Path) -> None:
    assert completions(alone, f"adapterd list --address unix:{tmp_path}/nobody.sock m") == []


def test_terminal_gets_colours_unless_they_are_not_wanted(adapterd: CommandLine) -> None:
    assert "\x1b[" in adapterd("list", terminal=True).out
    assert "\x1b[" not in adapterd("list").out
    adapterd.patch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in adapterd("list", terminal=True).out


def test_wide_content_is_whole_in_a_pipe_and_on_a_terminal(adapterd: CommandLine, fake: FakeDaemon) -> None:
    adapterd.patch.setenv("COLUMNS", "60")
    reason = " ".join(f"reason{number}" for number in range(60))
    fake.versions[2].reason = reason
    assert reason in adapterd("show", "mood@2").out
    shown = re.sub(r"\x1b\[[0-9;]*m", "", adapterd("show", "mood@2", terminal=True).out)
    assert all(f"reason{number}" in shown for number in range(60))
