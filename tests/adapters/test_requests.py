"""A ticket hands tokens from one thread to another, ends once, and never leaves its reader waiting."""

import threading

import pytest
from adapterd.adapters.errors import EngineStopped, ServingError
from adapterd.adapters.requests import Ticket


def test_tokens_come_in_order_and_then_the_end() -> None:
    ticket = Ticket("r")
    for token in (5, 6):
        ticket.put(token)
    ticket.close("stop")
    assert list(ticket) == [5, 6]
    assert (ticket.finish, ticket.ended) == ("stop", True)


def test_a_reader_waits_for_the_writer() -> None:
    ticket, got = Ticket("r"), list[int]()
    reader = threading.Thread(target=lambda: got.extend(ticket))
    reader.start()
    ticket.put(7)
    ticket.close("length")
    reader.join(30)
    assert got == [7]


def test_nothing_within_the_timeout_is_not_the_end() -> None:
    ticket = Ticket("r")
    assert ticket.next_token(0) is None
    assert not ticket.ended
    assert not ticket.wait(0)


def test_an_error_comes_after_the_tokens_before_it() -> None:
    ticket = Ticket("r")
    ticket.put(5)
    ticket.fail(EngineStopped("gone"))
    assert ticket.next_token(0) == 5
    with pytest.raises(EngineStopped, match="gone"):
        ticket.next_token(0)
    assert ticket.wait(0)


def test_scores_are_the_result_of_a_scoring() -> None:
    ticket = Ticket("r")
    ticket.complete([-1.5, -2.5])
    assert ticket.result() == [-1.5, -2.5]


def test_the_first_end_counts() -> None:
    ticket = Ticket("r")
    ticket.cancel()
    ticket.put(5)
    ticket.complete([1.0])
    ticket.fail(EngineStopped("late"))
    assert ticket.cancelled
    assert (list(ticket), ticket.finish) == ([], "cancelled")
    with pytest.raises(ServingError, match="it was cancelled"):
        ticket.result()
    done = Ticket("d")
    done.close("stop")
    done.cancel()
    assert done.finish == "stop"
