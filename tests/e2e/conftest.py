"""What tests on the real base ask for."""

from collections.abc import Iterator

import pytest
from adapterd.adapters.device import compute_dtype


@pytest.fixture(scope="module", autouse=True)
def own_precision() -> Iterator[None]:
    """The real base computes in what the processor is best at, as in the daemon that it is compared with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adapterd.adapters.base.compute_dtype", compute_dtype)
        yield
