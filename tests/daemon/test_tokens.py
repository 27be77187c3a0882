"""Tokens: shown once, kept as hashes, with a role and an end."""

import hashlib
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from adapterd.daemon.errors import ConfigError
from adapterd.daemon.tokens import PREFIX, Token, add_token, holder, read_tokens, remove_token
from hypothesis import given
from hypothesis import strategies as st

MIDNIGHT = datetime(2026, 12, 1, tzinfo=UTC).timestamp()


def test_the_file_holds_a_hash_and_never_the_token(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    secret = add_token(path, "app", "infer")
    assert secret.startswith(PREFIX)
    assert secret not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o640
    assert read_tokens(path) == (Token("app", "infer", hashlib.sha256(secret.encode()).hexdigest()),)


def test_a_token_is_found_by_what_was_shown_and_by_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    secrets = {name: add_token(path, name, "submit") for name in ("ada", "bob")}
    tokens = read_tokens(path)
    for name, secret in secrets.items():
        found = holder(secret, tokens)
        assert found is not None
        assert found.name == name
    for wrong in ("", secrets["ada"][:-1], secrets["ada"] + "x", tokens[0].sha256, "\udcff"):
        assert holder(wrong, tokens) is None


def test_a_new_token_of_a_name_takes_the_place_of_the_old_one_and_comments_stay(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    old = add_token(path, "app", "infer")
    path.write_text(path.read_text() + "# ours\n")
    path.chmod(0o600)
    add_token(path, "app", "admin", days=3, today=date(2026, 11, 27))
    (token,) = read_tokens(path)
    assert (token.role, token.expires) == ("admin", MIDNIGHT)  # the last day belongs to it
    assert holder(old, [token]) is None
    assert "# ours\n" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_keeps_its_owner_and_group_so_that_the_daemon_may_read_it_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tokens"
    path.touch(0o640)  # as `install -m 640 -g adapterd /dev/null tokens` makes it
    given: list[tuple[object, ...]] = []
    monkeypatch.setattr("os.chown", lambda *to: given.append(to))
    add_token(path, "app", "infer")
    assert given == [(path, -1, path.stat().st_gid), (path, path.stat().st_uid, -1)]
    assert path.read_text().startswith("# NAME ROLE")


def test_a_removed_token_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    add_token(path, "app", "infer")
    remove_token(path, "app")
    assert read_tokens(path) == ()
    with pytest.raises(ConfigError, match="no token of app"):
        remove_token(path, "app")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("app infer abc", "is no token"),
        (f"app root {'0' * 64}", "'root' is no role"),
        (f"../app infer {'0' * 64}", "is no name"),
        (f"app infer {'0' * 64} soon", "soon is no date"),
        (f"app infer {'0' * 64}\napp admin {'1' * 64}", "two tokens of app"),
    ],
)
def test_a_file_that_is_none_of_ours_is_refused_and_not_written_over(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(line + "\n")
    with pytest.raises(ConfigError, match=said):
        read_tokens(path)
    with pytest.raises(ConfigError, match=said):
        add_token(path, "other", "infer")
    assert path.read_text() == line + "\n"


def test_a_file_that_everybody_may_write_to_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    add_token(path, "app", "infer")
    path.chmod(0o666)
    with pytest.raises(ConfigError, match="everybody may write"):
        read_tokens(path)


@given(st.binary(max_size=200))
def test_any_file_is_read_or_refused(content: bytes) -> None:
    import tempfile  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokens"
        path.write_bytes(content)
        try:
            tokens = read_tokens(path)
        except ConfigError:
            return
        assert all(token.role in ("infer", "submit", "admin") for token in tokens)
