"""The main job on the real base: files dropped into a running daemon become better versions that are served."""

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from adapterd.adapters.base import ensure_base, load_base
from adapterd.adapters.device import compute_dtype
from adapterd.daemon.client import Client
from adapterd.v1 import adapters_pb2, common_pb2, inference_pb2, learning_pb2
from peft import PeftModel

from examples.daemon_process import DaemonProcess

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

EXAMPLES = Path(__file__).parents[2] / "examples" / "tickets"
PATIENCE_S = 900.0
FIRST_LABELS = ("access", "billing", "hardware", "shipping")


def bases_folder() -> Path:
    """Where the real base is kept between runs."""
    default = Path.home() / ".cache" / "adapterd-tests" / "bases"
    return Path(os.environ.get("ADAPTERD_TEST_BASES", default))


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    """A daemon with the real base and default settings but for quick settling."""
    base = ensure_base(bases_folder(), "smollm2-135m", None, None)
    process = DaemonProcess(tmp_path_factory.mktemp("state"), {"base": str(base), "settle_s": 0.2, "rescan_s": 1.0})
    process.start()
    yield process
    if process.running:
        process.stop()


def drop(daemon: DaemonProcess, client: Client, name: str, number: int) -> learning_pb2.Drop:
    """Put an example file into the inbox and wait until the daemon is done with it."""
    daemon.drop("tickets", name, (EXAMPLES / name).read_bytes())
    end = time.monotonic() + PATIENCE_S
    over = (
        common_pb2.DROP_STATE_DONE,
        common_pb2.DROP_STATE_FAILED,
        common_pb2.DROP_STATE_HELD,
        common_pb2.DROP_STATE_QUARANTINED,
    )
    pause = threading.Event()
    while time.monotonic() < end:
        for found in client.learning.ListDrops(learning_pb2.ListDropsRequest(task="tickets")).drops:
            if found.id == number and found.state in over:
                return found
        pause.wait(0.5)
    raise AssertionError(f"drop {number} was not done in {PATIENCE_S} s:\n{daemon.log_tail()}")


def right_answers(client: Client, adapter: str, rows: list[dict[str, str]], labels: tuple[str, ...]) -> int:
    """How many rows are classified right."""
    right = 0
    for row in rows:
        answer = client.inference.Score(
            inference_pb2.ScoreRequest(
                adapter=adapter, input=inference_pb2.Input(prompt=row["text"]), continuations=labels
            )
        )
        right += labels[answer.best] == row["label"]
    return right


def test_two_drops_become_two_better_versions_and_a_revert_brings_back_the_first(daemon: DaemonProcess) -> None:
    test_rows = [json.loads(line) for line in (EXAMPLES / "test.jsonl").read_text("utf-8").splitlines()]
    old_rows = [row for row in test_rows if row["label"] in FIRST_LABELS][:32]
    with daemon.client() as client:
        done = drop(daemon, client, "drop-1.jsonl", 1)
        assert (done.state, done.version) == (common_pb2.DROP_STATE_DONE, 1), done.reason
        base = right_answers(client, "base", old_rows, FIRST_LABELS)
        first = right_answers(client, "tickets", old_rows, FIRST_LABELS)
        assert first >= base + 0.2 * len(old_rows), (base, first)

        done = drop(daemon, client, "drop-2.jsonl", 2)
        assert (done.state, done.version) == (common_pb2.DROP_STATE_DONE, 2), done.reason
        second = right_answers(client, "tickets", old_rows, FIRST_LABELS)
        assert second >= first - 0.1 * len(old_rows), (first, second)
        version = client.adapters.GetVersion(adapters_pb2.GetVersionRequest(version="tickets"))
        assert (version.version, version.parent, version.verdict) == (2, 1, "promote")

        moved = client.adapters.Revert(adapters_pb2.RevertRequest(task="tickets"))
        request = inference_pb2.GenerateRequest(
            adapter="tickets", input=inference_pb2.Input(prompt="My card was charged twice.")
        )
        answer = client.inference.Complete(request)
        assert (answer.served_by.version, moved.to) == (1, 1)
        assert moved.seconds < 1.0


def test_a_published_version_loads_in_plain_peft_and_gives_the_servers_log_likelihoods(
    daemon: DaemonProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PEFT computes in float32, whatever the server does."""
    folder = daemon.state / "adapters" / "tickets" / "000001"
    assert folder.is_dir(), "the test above publishes it"
    served_in = compute_dtype(torch.device("cpu"))
    monkeypatch.setattr("adapterd.adapters.base.compute_dtype", lambda *_: torch.float32)
    base = load_base(ensure_base(bases_folder(), "smollm2-135m", None, None), quantization="nf4", device="cpu")
    model = PeftModel.from_pretrained(base.model, str(folder))
    model.eval()
    prompt = base.tokenizer("Text: The speaker crackles.\nLabel:", add_special_tokens=False).input_ids
    with daemon.client() as client:
        scored = client.inference.Score(
            inference_pb2.ScoreRequest(
                adapter="tickets@1",
                input=inference_pb2.Input(prompt="The speaker crackles."),
                continuations=FIRST_LABELS,
            )
        )
    for score in scored.scores:
        answer = [*base.tokenizer(f" {score.text}", add_special_tokens=False).input_ids, base.tokenizer.eos_token_id]
        with torch.inference_mode():
            logits = model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1].float()
        expected = logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).sum()
        # In bfloat16 a logit above 16 is a multiple of an eighth, so each token may be off by a sixteenth and more.
        bound = 0.05 if served_in == torch.float32 else 0.125 * len(answer)
        assert score.log_likelihood == pytest.approx(float(expected), abs=bound)
        assert score.tokens == len(answer)
