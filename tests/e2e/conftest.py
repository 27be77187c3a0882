"""What tests on the real base ask for."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def exact() -> None:
    """Nothing: the real base computes in what the processor is best at."""
