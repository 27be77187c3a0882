"""What the start does with a state folder that a kill left as it was."""

from pathlib import Path

from adapterd.daemon.state_folder import sweep_state


def test_the_start_removes_what_was_unfinished_and_nothing_that_a_person_gave(tmp_path: Path) -> None:
    unfinished = [
        tmp_path / "jobs/1/.tmp-spec.json-4a6685e2",
        tmp_path / "jobs/2/.tmp-result",
        tmp_path / "data/sms/3/.tmp-train.jsonl-00000000",
        tmp_path / "corrections/.tmp-sms.jsonl-00000000",
    ]
    kept = [
        tmp_path / "jobs/1/spec.json",
        tmp_path / "jobs/1/checkpoint/checkpoint.safetensors",
        tmp_path / "quarantine/sms/3/a.jsonl",
        tmp_path / "inbox/sms/.tmp-of-another-program",
        tmp_path / "bases/.tmp-smollm2-135m/model.safetensors",
    ]
    for path in (*unfinished, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    unfinished[1].unlink()
    unfinished[1].mkdir()
    (unfinished[1] / "adapter_model.safetensors").touch()
    assert sorted(sweep_state(tmp_path)) == sorted(unfinished)
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in unfinished)
    assert sweep_state(tmp_path) == []
