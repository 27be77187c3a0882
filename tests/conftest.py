"""What every test may ask for."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from adapterd.adapters.base import Base, load_base, target_modules
from adapterd.adapters.tiny import make_tiny
from peft import LoraConfig, PeftModel, get_peft_model


def pytest_addoption(parser: pytest.Parser) -> None:
    """`pytest --device cuda tests/adapters tests/continual`: the tests of models, on a GPU."""
    parser.addoption("--device", default="cpu", help="where the tiny base lives: cpu (the default) or cuda")


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    """Where the tiny base lives."""
    return str(request.config.getoption("--device"))


@pytest.fixture(scope="session", autouse=True)
def exact() -> Iterator[None]:
    """Bases compute in float32 on every processor, so that what is equal in theory is equal; not so the real ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adapterd.adapters.base.compute_dtype", lambda *_: torch.float32)
        yield


@pytest.fixture(scope="session")
def tiny_base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny base, made once; read it, never write to it."""
    folder = tmp_path_factory.mktemp("bases") / "tiny"
    make_tiny(folder)
    return folder


@pytest.fixture
def tiny_base(tiny_base_folder: Path, device: str) -> Base:
    """The tiny base in fp32, loaded anew for each test: a test may wrap or change its modules."""
    return load_base(tiny_base_folder, quantization="none", device=device)


@pytest.fixture
def tiny_lora(tiny_base: Base) -> PeftModel:
    """The tiny base with a fresh, seeded, trainable LoRA adapter on every linear layer."""
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=target_modules(tiny_base.model), task_type="CAUSAL_LM")
    model = get_peft_model(tiny_base.model, config)
    assert isinstance(model, PeftModel)
    return model
