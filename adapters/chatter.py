"""What is said while a base is obtained and loaded: progress to the caller, and no noise of the libraries beside it."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from transformers.utils import logging as transformers_logging

Progress = Callable[[str, int, int], None]
"""Called with the name of a phase, how much of it is done and how much there is; once with 0, at the end with all."""


@contextmanager
def phase(progress: Progress, name: str) -> Iterator[None]:
    """Report a phase that cannot be measured: none of it is done, then all of it. One that fails stays undone."""
    progress(name, 0, 1)
    yield
    progress(name, 1, 1)


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Hide the progress bars of transformers and the hub client, and show them afterwards if they were shown before.

    Warnings are let through.
    """
    transformers_bars = transformers_logging.is_progress_bar_enabled()
    hub_bars = not are_progress_bars_disabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    disable_progress_bars()
    try:
        yield
    finally:
        if transformers_bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
        if hub_bars:
            enable_progress_bars()


def _drop(logger: str, beginning: str) -> None:
    """Drop a library's lines that begin so."""
    logging.getLogger(logger).addFilter(lambda record: not str(record.msg).startswith(beginning))


# Logged for every int8 layer at every step, 210 lines a token on a small base: that activations are rounded to int8 by
# way of fp16, which is what int8 means.
_drop("bitsandbytes.autograd._functions", "MatMul8bitLt: inputs will be cast")
# Said while bitsandbytes is imported, so it is dropped now: on a CPU with AVX512-BF16 it would have people install
# kernels for a product that is not used (see `unpacking`).
_drop("bitsandbytes.backends.cpu.ops", "Failed to load CPU gemm_4bit_forward")
