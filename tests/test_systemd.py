"""The files for systemd, read by systemd's own programs."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from adapterd.daemon.config import load_settings
from adapterd.daemon.serving_sections import Serving

FOLDER = Path(__file__).parent.parent / "systemd"
EXEC = "/opt/adapterd/bin/adapterd"

needs_analyze = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user, which only root may")


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


UNITS = {"adapterd.service": "serve", "adapterd-base.service": "base pull"}


@pytest.fixture(params=UNITS)
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A service with a program in it that exists here, which `verify` looks for; those that it wants lie beside it."""
    for name, does in UNITS.items():
        text = (FOLDER / name).read_text("utf-8")
        assert f"ExecStart={EXEC} {does}\n" in text
        (tmp_path / name).write_text(text.replace(EXEC, shutil.which("true") or "/bin/true"), "utf-8")
    return tmp_path / str(request.param)


def setting(name: str) -> str:
    """The value of a setting that the service names once."""
    lines = (FOLDER / "adapterd.service").read_text("utf-8").splitlines()
    (value,) = (line.removeprefix(f"{name}=") for line in lines if line.startswith(f"{name}="))
    return value


@needs_analyze
def test_systemd_understands_every_line_of_the_service(unit: Path) -> None:
    verified = run("systemd-analyze", "verify", unit)
    # An unknown name or value is only a complaint on stderr; the exit status stays 0.
    assert (verified.returncode, verified.stderr) == (0, "")


@needs_analyze
@pytest.mark.parametrize("drop_in", ["cpu.conf", "cuda.conf"])
def test_systemd_understands_every_line_of_a_drop_in(tmp_path: Path, drop_in: str) -> None:
    text = (FOLDER / "adapterd.service").read_text("utf-8")
    service = tmp_path / "adapterd.service"
    service.write_text(text.replace(EXEC, shutil.which("true") or "/bin/true").replace("adapterd-base", "x"), "utf-8")
    (tmp_path / "adapterd.service.d").mkdir()
    text = (FOLDER / drop_in).read_text("utf-8").replace("/usr/bin/nvidia-modprobe", "/bin/true")
    (tmp_path / "adapterd.service.d" / drop_in).write_text(text, "utf-8")
    verified = run("systemd-analyze", "verify", service)
    assert (verified.returncode, verified.stderr) == (0, "")


@needs_analyze
def test_the_service_is_hardened(unit: Path) -> None:
    threshold = {"adapterd.service": 11, "adapterd-base.service": 20}[unit.name]  # the second has a way out
    judged = run("systemd-analyze", "security", "--offline=true", f"--threshold={threshold}", unit)
    assert judged.returncode == 0, judged.stdout + judged.stderr


def test_the_service_leaves_alone_what_torch_needs() -> None:
    lines = (FOLDER / "adapterd.service").read_text("utf-8").splitlines()
    assert not [line for line in lines if line.startswith(("MemoryDenyWriteExecute", "ProcSubset"))]


def test_stopping_leaves_time_for_draining() -> None:
    assert float(setting("TimeoutStopSec")) >= 2 * Serving().drain_timeout_s


@needs_root
@pytest.mark.skipif(not shutil.which("systemd-sysusers"), reason="systemd-sysusers is not installed")
@pytest.mark.skipif(not shutil.which("systemd-tmpfiles"), reason="systemd-tmpfiles is not installed")
def test_user_and_inbox_are_made_as_written(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    made = run("systemd-sysusers", f"--root={tmp_path}", FOLDER / "adapterd.sysusers")
    assert made.returncode == 0, made.stderr
    name, _, uid, gid, *_ = (tmp_path / "etc" / "passwd").read_text("utf-8").split(":")
    assert name == setting("User")

    # The names in an ACL are looked up on this machine, whatever --root says: one that it has stands in.
    text = (FOLDER / "adapterd.tmpfiles").read_text("utf-8")
    (tmp_path / "adapterd.conf").write_text(text.replace("user:adapterd:", "user:root:"), "utf-8")
    made = run("systemd-tmpfiles", "--create", f"--root={tmp_path}", tmp_path / "adapterd.conf")
    assert (made.returncode, made.stderr) == (0, "")
    inbox = tmp_path / "srv" / "adapterd" / "inbox"
    status = inbox.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (int(uid), int(gid), 0o2770)
    assert str(inbox.relative_to(tmp_path)) in setting("ReadWritePaths")


def test_the_configuration_for_a_system_service_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("ADAPTERD_")]:
        monkeypatch.delenv(name)
    settings = load_settings(FOLDER / "adapterd.toml")
    assert setting("ReadWritePaths") == f"-{settings.inbox_dir}"
    assert settings.bind == f"unix:/run/{setting('RuntimeDirectory')}/adapterd.sock"
    assert str(settings.state) == f"/var/lib/{setting('StateDirectory')}"  # root's commands find it, too
