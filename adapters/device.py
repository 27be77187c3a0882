"""Where a model computes and in which precision."""

from pathlib import Path
from typing import Final

import torch

from .errors import BaseUnavailable

_CPUINFO: Final = Path("/proc/cpuinfo")
#: x86 calls them avx512_bf16 and amx_bf16, Arm bf16.
_BFLOAT16_FLAGS: Final = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


def choose_device(name: str) -> torch.device:
    """The device called `name`: "auto" (CUDA if there is one, else the CPU), "cpu", "cuda" or "cuda:1".

    Raises:
        BaseUnavailable: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as failure:
        raise BaseUnavailable(
            f"{name!r} is not a device", hint="`device` is auto, cpu, cuda or cuda:N", device=name
        ) from failure
    if device.type == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type != "cuda" or (device.index or 0) >= count:
        raise BaseUnavailable(
            f"the device {name} is not there: torch sees {count} CUDA devices",
            hint="set `device` to auto or cpu, or install a CUDA build of torch and its driver",
            device=name,
        )
    return torch.device("cuda", device.index or 0)


def compute_dtype(device: torch.device, cpuinfo: str | None = None) -> torch.dtype:
    """The fastest precision that `device` has in hardware and that keeps float32's range where it can.

    CUDA: bfloat16, or float16 on cards before Ampere. CPU: bfloat16 where there are instructions for it, else float32:
    emulated bfloat16 products take ten times as long. `cpuinfo` is the text of /proc/cpuinfo, read if not given.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if has_bfloat16(read_cpuinfo() if cpuinfo is None else cpuinfo) else torch.float32


def read_cpuinfo() -> str:
    """The text of /proc/cpuinfo; empty where there is none: then nothing is known of the processor."""
    try:
        return _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def has_bfloat16(cpuinfo: str, wanted: frozenset[str] = _BFLOAT16_FLAGS) -> bool:
    """Whether every CPU that /proc/cpuinfo lists multiplies bfloat16 in hardware, by one of the `wanted` extensions."""
    flags = [
        set(line.partition(":")[2].split())
        for line in cpuinfo.splitlines()
        if line.partition(":")[0].strip().lower() in {"flags", "features"}
    ]
    return bool(flags) and all(each & wanted for each in flags)
