"""Seats for streams that wait."""

from typing import Any

import pytest
from adapterd.daemon.errors import CallerGone, Stopping, TooManyFollowers
from adapterd.daemon.followers import Followers


class Context:
    """What a stream needs of gRPC's context."""

    def __init__(self, active: bool) -> None:
        self.active = active

    def is_active(self) -> bool:
        return self.active


def context(active: bool) -> Any:
    return Context(active)


def test_there_are_only_so_many_seats() -> None:
    followers = Followers(2)
    with followers.seat(), followers.seat(), pytest.raises(TooManyFollowers), followers.seat():
        pass
    assert followers.taken == 0


def test_a_seat_is_free_again_whatever_ended_the_stream() -> None:
    followers = Followers(1)
    with pytest.raises(ZeroDivisionError), followers.seat():
        raise ZeroDivisionError
    with followers.seat():
        assert followers.taken == 1


def test_a_stream_goes_on_while_its_client_is_there() -> None:
    Followers().check(context(active=True))


def test_a_stream_ends_with_its_client() -> None:
    with pytest.raises(CallerGone):
        Followers().check(context(active=False))


def test_every_stream_ends_with_the_daemon() -> None:
    followers = Followers()
    followers.close()
    with pytest.raises(Stopping):
        followers.check(context(active=True))
