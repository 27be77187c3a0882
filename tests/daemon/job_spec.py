"""What a training process is asked to do, for tests of its parts."""

from collections.abc import Sequence
from pathlib import Path

from adapterd.adapters.base import Base
from adapterd.daemon.trainer_spec import Spec


def spec_of(folder: Path, base: Base, drop: int = 1, history: Sequence[int] = ()) -> Spec:
    """Of a task's first drop, or of another."""
    return Spec(
        task="mood",
        drop=drop,
        version=1,
        base=str(base.folder),
        quantization=base.quantization,
        fingerprint=base.fingerprint,
        device="cpu",
        threads=1,
        data=str(folder / "data"),
        quarantine=str(folder / "quarantine"),
        general="",
        parent="",
        parent_version=0,
        history=list(history),
        golden=0,
        known={},
        training={},
        answered=0.0,
        hold_contradictions=True,
        new_labels=True,
        gate={},
    )
