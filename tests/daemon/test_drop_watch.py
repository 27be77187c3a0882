"""What a person who waits for a drop sees of a training."""

from adapterd.daemon.drop_watch import Advance


def test_progress_before_anything_is_known() -> None:
    assert str(Advance()) == "waiting"


def test_training_shows_step_and_loss_and_later_phases_keep_the_loss() -> None:
    training = Advance().after({"phase": "training", "progress": 0.2, "step": 3, "steps": 12, "loss": 1.23456})
    assert (str(training), training.share) == ("training  step 3/12  loss 1.235", 0.2)
    evaluating = training.after({"phase": "evaluating", "progress": 0.9, "subject": "base", "drop": 2})
    assert (str(evaluating), evaluating.share) == ("evaluating  loss 1.235", 0.9)


def test_bar_never_runs_backwards_nor_over_its_end() -> None:
    shares = []
    advance = Advance()
    for progress in (0.5, 0.4, 7.0):
        advance = advance.after({"progress": progress})
        shares.append(advance.share)
    assert shares == [0.5, 0.5, 1.0]


def test_event_without_details_changes_nothing() -> None:
    advance = Advance().after({"phase": "training", "progress": 0.5})
    assert advance.after({}) == advance
    assert advance.after({"loss": None}) == advance
