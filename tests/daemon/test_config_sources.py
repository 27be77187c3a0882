"""Where settings come from; and the commented example, which holds every one of them at its default."""

import itertools
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from adapterd.daemon.config import Settings
from adapterd.daemon.config_sources import Examined, examine, fields
from adapterd.daemon.errors import ConfigError

EXAMPLE = (Path(__file__).parents[2] / "adapterd.toml").read_text("utf-8")
SETTINGS = {place: (default, description) for place, default, description in fields(Settings)}
# Their defaults depend on the machine or are the absence of a value, which TOML cannot say.
WITHOUT_A_CONSTANT = {("state",), ("inbox",), ("address",), ("base_revision",)}

pytestmark = pytest.mark.usefixtures("clean_environment")


def lookup(values: dict[str, Any], place: tuple[str, ...]) -> Any:
    """The value at a path."""
    for name in place:
        values = values[name]
    return values


def sources(found: Examined) -> dict[str, tuple[object, str]]:
    """Value and source of every setting that is no default."""
    return {row.name: (row.value, row.source) for row in found.settings if not row.source.startswith("default")}


UNCOMMENTED = tomllib.loads(re.sub(r"^#(?=\w+ = )", "", EXAMPLE, flags=re.MULTILINE))


def test_the_example_as_it_is_sets_nothing() -> None:
    assert all(section == {} for section in tomllib.loads(EXAMPLE).values())


@pytest.mark.parametrize("place", [place for place in SETTINGS if place not in WITHOUT_A_CONSTANT], ids=".".join)
def test_the_example_names_every_setting_at_its_default(place: tuple[str, ...]) -> None:
    shown, default = lookup(UNCOMMENTED, place), SETTINGS[place][0]
    assert (shown, type(shown)) == (default, type(default))


def test_the_example_shows_what_a_setting_without_constant_default_looks_like() -> None:
    settings = Settings(**UNCOMMENTED)
    assert {place for place in WITHOUT_A_CONSTANT if lookup(UNCOMMENTED, place)} == WITHOUT_A_CONSTANT
    assert settings.inbox_dir == Path("/srv/adapterd/inbox")


def test_the_example_names_nothing_else() -> None:
    named = {
        (name, *([inner] if inner else []))
        for name, value in UNCOMMENTED.items()
        for inner in (value if isinstance(value, dict) else [""])
    }
    assert named == set(SETTINGS)


def test_every_setting_in_the_example_is_explained_right_above_it() -> None:
    pairs = itertools.pairwise(EXAMPLE.splitlines())
    assert [line for above, line in pairs if re.match(r"#\w+ = ", line) and not above.startswith("# ")] == []


def test_every_setting_says_what_it_is() -> None:
    assert [place for place, (_, description) in SETTINGS.items() if not description] == []


def test_without_anything_all_is_default(tmp_path: Path) -> None:
    found = examine(None, None, {})
    assert (found.file, found.problems, found.warnings) == (None, (), ())
    assert len(found.settings) == len(SETTINGS)
    assert sources(found) == {}


def test_state_says_which_variable_its_default_came_from(clean_environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    state = {row.name: row for row in examine(None, None).settings}["state"]
    assert state.source == "default, from $XDG_STATE_HOME"
    clean_environment.setenv("STATE_DIRECTORY", str(tmp_path / "systemd"))
    state = {row.name: row for row in examine(None, None).settings}["state"]
    assert (state.value, state.source) == (tmp_path / "systemd", "default, from $STATE_DIRECTORY")


def test_command_line_wins_over_environment_and_that_over_the_file(
    clean_environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mine.toml").write_text('address = "unix:/from/file"\nsettle_s = 5\n[training]\nrank = 2\nepochs = 9\n')
    clean_environment.setenv("ADAPTERD_ADDRESS", "unix:/from/environment")
    clean_environment.setenv("adapterd_training__rank", "4")
    found = examine(tmp_path / "mine.toml", "unix:/from/line")
    file = str(tmp_path / "mine.toml")
    assert sources(found) == {
        "address": ("unix:/from/line", "--address"),
        "settle_s": (5.0, file),
        "training.rank": (4, "$adapterd_training__rank"),
        "training.epochs": (9, file),
    }
    assert sources(examine(tmp_path / "mine.toml", None))["address"] == ("unix:/from/environment", "$ADAPTERD_ADDRESS")


def test_section_may_come_whole_from_the_environment(clean_environment: pytest.MonkeyPatch) -> None:
    clean_environment.setenv("ADAPTERD_TRAINING", '{"rank": 4}')
    assert sources(examine(None, None)) == {"training.rank": (4, "$ADAPTERD_TRAINING")}


def test_wrong_values_are_shown_beside_the_complaint(tmp_path: Path) -> None:
    (tmp_path / "adapterd.toml").write_text("settle_s = -1\n[training]\nrank = 4\n")
    found = examine(None, None)
    assert found.loaded is None
    assert sources(found) == {"settle_s": (-1, "adapterd.toml"), "training.rank": (4, "adapterd.toml")}
    assert "settle_s" in found.problems[0]


def test_file_that_is_no_toml_is_a_problem_and_all_else_is_shown(tmp_path: Path) -> None:
    (tmp_path / "adapterd.toml").write_text("rank 4")
    found = examine(None, None)
    assert "cannot read" in found.problems[0]
    assert len(found.settings) == len(SETTINGS)


def test_file_that_was_named_and_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        examine(tmp_path / "none.toml", None)


def test_wrong_task_settings_and_names_are_problems(clean_environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clean_environment.setenv("ADAPTERD_INBOX", str(tmp_path / "inbox"))
    for task, text in (("good", "[training]\nrank = 4\n"), ("bad", "[training]\nranc = 4\n"), (".git", "no toml")):
        (tmp_path / "inbox" / task).mkdir(parents=True)
        (tmp_path / "inbox" / task / "task.toml").write_text(text)
    (tmp_path / "inbox" / "No Task").mkdir()
    (tmp_path / "inbox" / "file").touch()
    found = examine(None, None)
    assert found.loaded is not None
    first, second = found.problems
    assert "No Task" in first
    assert "bad/task.toml" in second
    assert "training.ranc" in second


def test_variables_that_name_no_setting_are_warned_of() -> None:
    environment = {"ADAPTERD_TRANING__RANK": "4", "ADAPTERD_CONFIG": "x", "ADAPTERD_BASE": "tiny", "OTHER": "x"}
    assert examine(None, None, environment).warnings == (
        "$ADAPTERD_TRANING__RANK names no setting, so it changes nothing",
    )
