"""A team does every turn of a loop once, however many they are."""

import threading
import time

import numpy as np
import pytest
import torch
from adapterd.adapters import team
from adapterd.adapters.compiled import array
from adapterd.adapters.team import SharedLoop
from hypothesis import given
from hypothesis import strategies as st

MUCH = 1 << 30


def count_up(at: int, _room: int, begin: int, end: int) -> None:
    """Add one to each of the `end` counts at the address that it is told."""
    counts = array(array(at, (1,), np.int64)[0], (end,), np.int64)
    for turn in range(begin, end):
        counts[turn] += 1


@pytest.fixture(scope="module")
def loop() -> SharedLoop:
    return SharedLoop(count_up, told=1)


@given(count=st.integers(0, 50), threads=st.integers(1, 4), products=st.sampled_from([0, 1 << 18, MUCH]))
def test_each_turn_is_done_once(loop: SharedLoop, count: int, threads: int, products: int) -> None:
    counts = np.zeros(count, np.int64)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch, "get_num_threads", lambda: threads)
        loop(count, (counts.ctypes.data,), products)
    assert (counts == 1).all()


def test_each_thread_has_room_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_and_sum(at: int, room: int, begin: int, end: int) -> None:
        sums, mine = array(array(at, (1,), np.int64)[0], (end,), np.float32), array(room, (1000,), np.float32)
        for turn in range(begin, end):
            for i in range(1000):
                mine[i] = turn
            sums[turn] = mine[:1000].sum()

    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    sums = np.zeros(400, np.float32)
    SharedLoop(fill_and_sum, told=1)(400, (sums.ctypes.data,), MUCH, room=1000)
    assert (sums == 1000 * np.arange(400)).all()


@pytest.mark.skipif(team._openmp() is None, reason="torch computes with another team here")
def test_turns_are_done_by_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def note_room(at: int, room: int, begin: int, end: int) -> None:
        rooms = array(array(at, (1,), np.int64)[0], (end,), np.int64)
        for turn in range(begin, end):
            rooms[turn] = room

    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    rooms = np.zeros(30, np.int64)
    SharedLoop(note_room, told=1)(30, (rooms.ctypes.data,), MUCH, room=8)
    assert len(set(rooms.tolist())) == 3


def test_a_threads_room_is_of_floats_whatever_torch_makes_by_default() -> None:
    torch.set_default_dtype(torch.bfloat16)
    try:
        room = team._Room()
        room.of(100)
        assert room.floats.nbytes == 400
    finally:
        torch.set_default_dtype(torch.float32)


def test_where_torch_has_no_such_team_a_loop_is_done_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team, "_openmp", lambda: None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    counts = np.zeros(9, np.int64)
    SharedLoop(count_up, told=1)(9, (counts.ctypes.data,), MUCH)
    assert (counts == 1).all()


@pytest.mark.parametrize(("products", "go_on"), [(1, False), (MUCH, True)])
def test_other_threads_go_on_beside_a_long_loop_alone(products: int, go_on: bool) -> None:
    def long(at: int, _room: int, begin: int, end: int) -> None:
        result = array(array(at, (1,), np.int64)[0], (1,), np.float64)
        x = 0.3
        for _ in range(begin, 50_000_000 * end):  # a third of a second
            x = 3.9 * x * (1 - x)
        result[0] = x

    loop, result, ticks, over = SharedLoop(long, told=1), np.zeros(1), list[float](), threading.Event()

    def tick() -> None:
        while not over.wait(0.001):
            ticks.append(time.monotonic())

    other = threading.Thread(target=tick)
    other.start()
    begin = time.monotonic()
    loop(1, (result.ctypes.data,), products)
    end = time.monotonic()
    over.set()
    other.join()
    assert 0 < result[0] < 1
    assert (sum(begin < at < end for at in ticks) > 3) == go_on
