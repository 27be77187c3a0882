"""Bases from the Hugging Face hub, or whatever speaks its protocol: pinned to a commit, plain files alone."""

import re
import shutil
from pathlib import Path
from typing import Any, Final

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from .chatter import Progress, no_progress_bars, phase
from .errors import BaseUnavailable
from .provenance import sha256_of

#: No code, no pickles, no second copy of the weights in another format.
FILES: Final = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model-*.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "LICENSE*",
)
_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}", re.ASCII)


def is_repository(name: str) -> bool:
    """Whether `name` reads `owner/model`."""
    return _REPOSITORY.fullmatch(name) is not None


def download(repository: str, revision: str | None, folder: Path, progress: Progress) -> dict[str, str]:
    """Download the model's plain files into `folder` and return where they came from: repository, commit, licence.

    `revision` is a branch, tag or commit, by default the repository's main branch; it is resolved to a commit first, so
    that all files are of one commit. Files that a broken download left in `folder` are not fetched again. Weights
    are checked against the hub's sha256. The hub client's own environment applies (HF_ENDPOINT, HF_TOKEN).

    Raises:
        BaseUnavailable: no network, no such repository or revision, no right to read it, or a damaged download.
    """
    try:
        with phase(progress, f"asking the hub for {repository}"):
            info = HfApi().model_info(repository, revision=revision, files_metadata=True)
        commit = str(info.sha)
        with phase(progress, f"downloading {repository} at {commit[:12]}"), no_progress_bars():
            snapshot_download(
                repository,
                revision=commit,
                local_dir=folder,
                allow_patterns=list(FILES),
                ignore_patterns=["*/*"],  # a pattern's * matches / too
            )
    except Exception as failure:
        raise BaseUnavailable(
            f"the base {repository} cannot be downloaded: {_first_line(failure)}", hint=_hint(failure, repository)
        ) from failure
    with phase(progress, "checking it"):
        for sibling in info.siblings or ():
            path = folder / sibling.rfilename
            published = sibling.lfs.sha256 if sibling.lfs is not None else None
            if published is not None and path.is_file() and sha256_of(path) != published:
                path.unlink()
                raise BaseUnavailable(
                    f"{sibling.rfilename} of {repository} arrived damaged (sha256)",
                    hint="try again",
                    file=sibling.rfilename,
                )
        shutil.rmtree(folder / ".cache", ignore_errors=True)  # the client's notes, not part of the model
    card: Any = info.card_data
    return {
        "repository": repository,
        "commit": commit,
        "licence": str(getattr(card, "license", None) or "unknown"),
    }


def _first_line(failure: Exception) -> str:
    return (str(failure).strip().splitlines() or [type(failure).__name__])[0]


def _hint(failure: Exception, repository: str) -> str:
    if isinstance(failure, GatedRepoError):
        return f"accept the terms of {repository} on the hub, and give the daemon a token (HF_TOKEN)"
    if isinstance(failure, RevisionNotFoundError):
        return "`revision` must be a branch, tag or commit of the repository"
    if isinstance(failure, RepositoryNotFoundError):
        return "check the name; a private repository needs a token (HF_TOKEN)"
    return "the hub must be reachable (HF_ENDPOINT names a mirror); without a network, name a local folder as `base`"
