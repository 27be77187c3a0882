"""Which device and which precision."""

import pytest
import torch
from adapterd.adapters.device import choose_device, compute_dtype, has_bfloat16
from adapterd.adapters.errors import BaseUnavailable

OLD = "processor\t: 0\nflags\t\t: fpu avx2 fma\n\nprocessor\t: 1\nflags\t\t: fpu avx2 fma\n"
NEW = OLD.replace("fma", "fma avx512f avx512_bf16")


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        (NEW, torch.bfloat16),
        (OLD, torch.float32),
        (OLD.replace("fma", "amx_bf16 amx_tile"), torch.bfloat16),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", torch.bfloat16),
        ("processor\t: 0\nFeatures\t: fp asimd\n", torch.float32),
        (NEW + OLD, torch.float32),  # one slow core is enough to wait for
        ("model name\t: with bf16 in its name\n", torch.float32),
        ("", torch.float32),
    ],
)
def test_a_cpu_computes_in_bfloat16_only_where_it_has_instructions_for_it(cpuinfo: str, expected: torch.dtype) -> None:
    assert compute_dtype(torch.device("cpu"), cpuinfo) is expected
    assert has_bfloat16(cpuinfo) is (expected is torch.bfloat16)


def test_auto_takes_cuda_if_there_is_one() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "", "meta", "cuda:x"])
def test_a_device_that_is_not_there_is_an_error(name: str) -> None:
    with pytest.raises(BaseUnavailable) as caught:
        choose_device(name)
    assert "device" in caught.value.hint
