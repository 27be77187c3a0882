"""The manager keeps the aliases' versions in the engine and hands out leases, on a real engine and a real store."""

import json
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from adapterd.adapters.base import Base
from adapterd.adapters.catalog import Served, VersionInfo
from adapterd.adapters.engine import Engine
from adapterd.adapters.errors import (
    BaseMismatch,
    CorruptVersion,
    EngineStopped,
    NoFreeSlot,
    UnknownAdapter,
    VersionNotServable,
)
from adapterd.adapters.lease import Lease
from adapterd.adapters.manager import Manager
from adapterd.adapters.refs import AdapterRef
from adapterd.adapters.requests import Scoring
from adapterd.adapters.roster import RETRY_S
from adapterd.adapters.scoring import score_choices
from adapterd.adapters.states import ServingState, VersionState
from adapterd.adapters.store import AdapterWeights, Store
from safetensors.torch import save_file

PROBE = Scoring("probe", 0, [5, 6, 7], [[8, 9], [10]])


class World:
    """An engine with three slots, a store, a manager over both, and a clock that stands still."""

    def __init__(self, base: Base, root: Path, make_adapter: Callable[..., AdapterWeights], **settings: Any) -> None:
        self.engine = Engine(base, slots=3, max_rank=8, max_batch=8, max_queue=64, max_context=64)
        self.engine.start()
        self.store = Store(root / "adapters")
        self.now = 1000.0
        self.events: list[tuple[str, str, int]] = []
        self.manager = Manager(
            self.engine,
            self.store,
            fingerprint=base.fingerprint,
            slots=3,
            clock=lambda: self.now,
            on_event=lambda kind, message, task, version: self.events.append((kind, task, version)),
            **settings,
        )
        self.fingerprint = base.fingerprint
        self.root = root
        self.make_adapter = make_adapter
        self.digests: dict[tuple[str, int], str] = {}
        self.states: dict[str, dict[int, VersionState]] = {}

    def publish(self, task: str, *versions: int, fingerprint: str | None = None) -> None:
        """Put versions of random weights into the store and tell the manager of them."""
        for version in versions:
            adapter = self.make_adapter(100 * version + len(task))
            weights = self.root / "new.safetensors"
            tensors = {}
            for name, (a, b) in adapter.layers.items():
                tensors[f"base_model.model.{name}.lora_A.weight"] = a.contiguous()
                tensors[f"base_model.model.{name}.lora_B.weight"] = b.contiguous()
            save_file(tensors, weights)
            self.digests[task, version] = self.store.publish(
                task,
                version,
                weights=weights,
                config={
                    "peft_type": "LORA",
                    "r": adapter.rank,
                    "lora_alpha": adapter.scaling * adapter.rank,
                    "target_modules": sorted({name.rpartition(".")[2] for name in adapter.layers}),
                },
                template={"serve": f"{task}-{version}"},
                manifest={"base": {"fingerprint": fingerprint or self.fingerprint}},
                fisher=None,
            )
            self.set_state(task, version, VersionState.AVAILABLE)

    def set_state(self, task: str, version: int, state: VersionState) -> None:
        self.states.setdefault(task, {})[version] = state
        infos = {v: VersionInfo(v, self.digests[task, v], s) for v, s in self.states[task].items()}
        self.manager.set_versions(task, infos)

    def alias(self, task: str, **aliases: int) -> None:
        self.manager.set_aliases(task, {name: Served(v, self.digests[task, v]) for name, v in aliases.items()})

    def lease(self, ref: str, request_id: str = "r1", timeout: float = 60) -> Lease:
        return self.manager.lease(AdapterRef.parse(ref), request_id, timeout)

    def reconcile(self, after: float = 0.0) -> None:
        self.now += after
        self.manager.reconcile(self.now)

    def state(self, task: str, version: int) -> ServingState:
        return self.manager.serving_state(task, version)[0]

    def answer(self, slot: int) -> list[float]:
        ticket = self.engine.submit(Scoring("probe", slot, PROBE.prompt, PROBE.continuations))
        assert ticket.wait(60)
        return ticket.result()

    def break_weights(self, task: str, version: int) -> Callable[[], None]:
        """Flip a bit of the published weights; the function returned flips it back."""
        path = self.store.folder(task, version) / "adapter_model.safetensors"

        def flip() -> None:
            data = bytearray(path.read_bytes())
            data[-1] ^= 1
            path.write_bytes(data)

        flip()
        return flip


@pytest.fixture
def make_world(
    tiny_base: Base, tmp_path: Path, make_adapter: Callable[..., AdapterWeights]
) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make(**settings: Any) -> World:
        made.append(World(tiny_base, tmp_path, make_adapter, **settings))
        return made[-1]

    yield make
    for one in made:
        one.engine.stop()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()


def test_the_base_needs_no_slot(world: World) -> None:
    with world.lease("base") as lease:
        assert (lease.slot, lease.task, lease.version, lease.alias) == (0, "", 0, "")
        assert lease.digest == world.fingerprint
        assert world.manager.usage().leases == 0


def test_a_champion_is_loaded_before_anyone_asks(world: World) -> None:
    world.publish("mail", 1)
    world.alias("mail", champion=1)
    assert world.state("mail", 1) is ServingState.START
    world.reconcile()
    assert world.state("mail", 1) is ServingState.AVAILABLE
    with world.lease("mail") as lease:
        assert (lease.task, lease.version, lease.alias) == ("mail", 1, "champion")
        assert lease.digest == world.digests["mail", 1]
        assert lease.template == {"serve": "mail-1"}
    assert [kind for kind, *_ in world.events].count("serving.available") == 1


def test_a_leased_slot_answers_with_its_versions_weights(world: World, peft_model: Any) -> None:
    world.publish("mail", 1, 2)
    with world.lease("mail@1") as one, world.lease("mail@2") as two, world.lease("base") as base:
        answers = [world.answer(lease.slot) for lease in (one, two, base)]
    assert len({tuple(answer) for answer in answers}) == 3
    weights = world.store.load("mail", 2, digest=world.digests["mail", 2], shapes=None)
    model = peft_model(weights)
    assert answers[1] == pytest.approx(score_choices(model, [(PROBE.prompt, PROBE.continuations)])[0], abs=1e-4)


def test_a_version_asked_for_by_number_is_loaded_on_demand(world: World) -> None:
    world.publish("mail", 1, 2)
    world.alias("mail", champion=1)
    assert world.state("mail", 2) is ServingState.END
    with world.lease("mail@2") as lease:
        assert (lease.version, lease.alias) == (2, "")
    assert world.state("mail", 2) is ServingState.AVAILABLE


def test_what_does_not_exist_is_named_beside_what_does(world: World) -> None:
    with pytest.raises(UnknownAdapter, match="no task 'mail'"):
        world.lease("mail")
    world.publish("mail", 1, 4)
    with pytest.raises(UnknownAdapter) as error:
        world.lease("post")
    assert "mail" in error.value.hint
    with pytest.raises(UnknownAdapter) as error:
        world.lease("mail@3")
    assert "1, 4" in error.value.hint
    with pytest.raises(UnknownAdapter) as error:
        world.lease("mail")
    assert "no promoted version" in error.value.hint
    world.alias("mail", champion=4)
    with pytest.raises(UnknownAdapter) as error:
        world.lease("mail@canary")
    assert "champion (version 4)" in error.value.hint


@pytest.mark.parametrize("state", [VersionState.RETIRED, VersionState.DELETED])
def test_a_retired_or_deleted_version_is_not_served(world: World, state: VersionState) -> None:
    world.publish("mail", 1, 2)
    world.alias("mail", champion=2)
    world.set_state("mail", 1, state)
    with pytest.raises(VersionNotServable, match=f"mail@1 is {state.value}"):
        world.lease("mail@1")


@pytest.mark.parametrize("state", [VersionState.CANDIDATE, VersionState.REJECTED])
def test_a_version_that_is_not_promoted_can_be_tried_by_number(world: World, state: VersionState) -> None:
    world.publish("mail", 1)
    world.set_state("mail", 1, state)
    with world.lease("mail@1") as lease:
        assert lease.version == 1


def test_a_lease_keeps_its_version_when_the_alias_moves(world: World) -> None:
    world.publish("mail", 1, 2)
    world.alias("mail", champion=1)
    world.reconcile()
    before = world.lease("mail", "r1")
    answer = world.answer(before.slot)
    world.manager.ensure("mail", 2, world.digests["mail", 2])
    world.alias("mail", champion=2, previous=1)
    after = world.lease("mail", "r2")
    assert (before.version, after.version) == (1, 2)
    assert before.slot != after.slot
    assert world.answer(before.slot) == answer
    with world.lease("mail@previous", "r3") as previous:
        assert previous.slot == before.slot


def test_an_alias_serves_its_old_version_until_the_new_one_is_loaded(world: World) -> None:
    world.publish("mail", 1, 2)
    world.alias("mail", champion=1)
    world.reconcile()
    world.alias("mail", champion=2)
    with world.lease("mail") as lease:
        assert lease.version == 1
    world.reconcile()
    with world.lease("mail") as lease:
        assert lease.version == 2


def test_an_alias_never_serves_an_old_version_that_was_retired(world: World) -> None:
    world.publish("mail", 1, 2)
    world.alias("mail", champion=1)
    world.reconcile()
    world.alias("mail", champion=2)
    world.set_state("mail", 1, VersionState.RETIRED)
    with world.lease("mail") as lease:
        assert lease.version == 2


def test_a_version_that_cannot_be_loaded_leaves_the_old_one_serving(world: World) -> None:
    world.publish("mail", 1, 2)
    world.alias("mail", champion=1)
    world.reconcile()
    mend = world.break_weights("mail", 2)
    world.alias("mail", champion=2, previous=1)
    world.reconcile()
    state, reason = world.manager.serving_state("mail", 2)
    assert state is ServingState.ERROR
    assert "digest" in reason
    with world.lease("mail") as lease:
        assert lease.version == 1
    with pytest.raises(CorruptVersion, match="digest"):
        world.lease("mail@2")
    mend()
    world.reconcile(after=RETRY_S - 1)  # too early
    assert world.state("mail", 2) is ServingState.ERROR
    world.reconcile(after=2)
    assert world.state("mail", 2) is ServingState.AVAILABLE
    with world.lease("mail") as lease:
        assert lease.version == 2
    assert world.events.count(("serving.failed", "mail", 2)) == 1


def test_one_broken_version_stops_no_other(world: World) -> None:
    for task in ("a", "b"):
        world.publish(task, 1)
        world.alias(task, champion=1)
    world.break_weights("a", 1)
    world.reconcile()
    assert world.state("a", 1) is ServingState.ERROR
    assert world.state("b", 1) is ServingState.AVAILABLE
    with pytest.raises(CorruptVersion):
        world.lease("a")


def test_a_manifest_that_is_gone_is_a_corrupt_version(world: World) -> None:
    world.publish("mail", 1)
    (world.store.folder("mail", 1) / "manifest.json").unlink()
    with pytest.raises(CorruptVersion):
        world.lease("mail@1")


def test_a_manifest_that_names_no_base_is_a_corrupt_version(world: World) -> None:
    world.publish("mail", 1)
    path = world.store.folder("mail", 1) / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["base"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(CorruptVersion, match="cannot be read"):
        world.lease("mail@1")


def test_a_version_of_another_base_is_never_loaded(world: World) -> None:
    world.publish("mail", 1, fingerprint="another")
    with pytest.raises(BaseMismatch, match="another"):
        world.lease("mail@1")
    with pytest.raises(BaseMismatch, match="another"):  # now from memory
        world.lease("mail@1")
    assert world.manager.usage().used == 0


def test_ensure_reports_a_bad_version_and_keeps_no_slot(world: World) -> None:
    world.publish("mail", 1)
    mend = world.break_weights("mail", 1)
    with pytest.raises(CorruptVersion):
        world.manager.ensure("mail", 1, world.digests["mail", 1])
    assert world.manager.usage().used == 0
    mend()
    world.manager.ensure("mail", 1, world.digests["mail", 1])  # tried anew at once
    assert world.state("mail", 1) is ServingState.AVAILABLE
    world.manager.ensure("mail", 1, world.digests["mail", 1])


def test_a_version_whose_answers_are_not_finite_gets_no_request(world: World, make_adapter: Any) -> None:
    world.make_adapter = lambda seed: make_adapter(seed, strength=1e37)
    world.publish("mail", 1)
    with pytest.raises(CorruptVersion, match="not finite"):
        world.lease("mail@1")
    assert world.manager.usage().used == 0
    world.make_adapter = make_adapter
    world.publish("mail", 2)
    with world.lease("mail@2") as lease:
        assert world.answer(lease.slot)


def test_a_version_is_tried_by_a_forward_where_norms_do_not_prove_it_harmless(
    world: World, make_adapter: Any, monkeypatch: Any
) -> None:
    tried: list[int] = []
    monkeypatch.setattr("adapterd.adapters.manager.try_out", lambda _engine, _key, slot: tried.append(slot))
    world.publish("mail", 1)
    world.lease("mail@1", "r1").release()
    assert not tried
    world.make_adapter = lambda seed: make_adapter(seed, strength=1e5)
    world.publish("mail", 2)
    with world.lease("mail@2", "r2") as lease:
        assert tried == [lease.slot]


def test_requests_for_one_cold_version_load_it_once(world: World, monkeypatch: Any) -> None:
    world.publish("mail", 1)
    load, loads = world.store.laid_out, []
    began, gate = threading.Event(), threading.Event()

    def slow_load(*args: Any, **kwargs: Any) -> Any:
        loads.append(args)
        began.set()
        assert gate.wait(60)
        return load(*args, **kwargs)

    monkeypatch.setattr(world.store, "laid_out", slow_load)
    with ThreadPoolExecutor(4) as pool:
        leases = [pool.submit(world.lease, "mail@1", f"r{i}") for i in range(4)]
        assert began.wait(60)
        with pytest.raises(VersionNotServable, match="not loaded after"):
            world.lease("mail@1", "impatient", timeout=0.01)
        with world.lease("base") as other:  # nobody else waits for the loading
            assert world.answer(other.slot)
        gate.set()
        held = [lease.result(60) for lease in leases]
    assert len(loads) == 1
    assert {lease.slot for lease in held} == {held[0].slot}
    assert world.manager.usage().leases == 4
    for lease in held:
        lease.release()
    assert world.manager.usage().leases == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only there a thread has a niceness of its own")
def test_a_version_is_read_slowly_unless_a_request_awaits_it(world: World, monkeypatch: Any) -> None:
    for version in (1, 2):
        world.publish("mail", version)
    load, niceness = world.store.laid_out, []

    def noting(*args: Any, **kwargs: Any) -> Any:
        niceness.append(os.getpriority(os.PRIO_PROCESS, 0))
        return load(*args, **kwargs)

    monkeypatch.setattr(world.store, "laid_out", noting)
    with world.lease("mail@1"):
        world.manager.ensure("mail", 2, world.digests["mail", 2])
    assert niceness == [os.getpriority(os.PRIO_PROCESS, 0), 19]


def test_a_lease_is_given_back_once_however_often_it_is_released(world: World) -> None:
    world.publish("mail", 1)
    lease = world.lease("mail@1", "r1")
    other = world.lease("mail@1", "r2")
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(lease.release) for _ in range(8)]:
            done.result()
    assert world.manager.usage().leases == 1
    with pytest.raises(ZeroDivisionError), other:
        _ = 1 / 0
    assert world.manager.usage().leases == 0


def test_champions_stay_and_the_least_recently_used_makes_room(world: World) -> None:
    world.publish("mail", 1, 2, 3, 4)
    world.alias("mail", champion=1)
    world.reconcile()
    for ref in ("mail@2", "mail@3", "mail@4"):
        world.lease(ref).release()
    assert world.state("mail", 1) is ServingState.AVAILABLE
    assert world.state("mail", 2) is ServingState.END
    assert world.state("mail", 3) is ServingState.AVAILABLE
    with world.lease("mail@2") as again:
        assert again.version == 2
    assert world.state("mail", 3) is ServingState.END


def test_a_version_that_left_its_slot_comes_back_without_its_files(make_world: Callable[..., World]) -> None:
    world = make_world(host_bytes=1 << 20)
    world.publish("mail", 1, 2, 3, 4)
    with world.lease("mail@1") as lease:
        first = world.answer(lease.slot)
    for ref in ("mail@2", "mail@3", "mail@4"):
        world.lease(ref).release()
    assert world.state("mail", 1) is ServingState.END
    mend = world.break_weights("mail", 1)
    with world.lease("mail@1") as lease:  # what was checked when it was read is served
        assert world.answer(lease.slot) == first
        assert lease.template == {"serve": "mail-1"}
    mend()


def test_a_retired_version_is_not_kept_in_memory(make_world: Callable[..., World]) -> None:
    world = make_world(host_bytes=1 << 20)
    world.publish("mail", 1, 2, 3, 4)
    for ref in ("mail@1", "mail@2", "mail@3", "mail@4"):
        world.lease(ref).release()
    host = world.manager._roster.host
    assert host.bytes > 0  # version 1
    world.set_state("mail", 1, VersionState.RETIRED)
    assert host.bytes == 0
    world.set_state("mail", 2, VersionState.RETIRED)
    world.reconcile()
    world.reconcile()
    assert world.state("mail", 2) is ServingState.END
    assert host.bytes == 0


def test_pins_always_leave_a_slot_for_the_next_version(world: World) -> None:
    for task in ("a", "b", "c", "d"):
        world.publish(task, 1)
        world.alias(task, champion=1)
    world.reconcile()
    assert world.manager.usage().used == 2
    for task in ("c", "d", "c"):
        with world.lease(task) as lease:
            assert lease.task == task
    assert world.state("a", 1) is ServingState.AVAILABLE
    assert world.state("b", 1) is ServingState.AVAILABLE


def test_a_full_engine_says_so_and_recovers(world: World) -> None:
    world.publish("mail", 1, 2, 3, 4)
    leases = [world.lease(f"mail@{version}") for version in (1, 2, 3)]
    with pytest.raises(NoFreeSlot, match="mail@4"):
        world.lease("mail@4")
    leases[1].release()
    with world.lease("mail@4") as lease:
        assert lease.slot == leases[1].slot


def test_a_retired_version_leaves_once_its_requests_have_ended(world: World) -> None:
    world.publish("mail", 1, 2)
    world.alias("mail", champion=2)
    lease = world.lease("mail@1")
    world.set_state("mail", 1, VersionState.RETIRED)
    world.reconcile()
    assert world.state("mail", 1) is ServingState.DRAINING
    assert world.answer(lease.slot)
    world.reconcile(after=61)
    world.reconcile(after=61)
    assert world.events.count(("serving.drain_slow", "mail", 1)) == 1
    lease.release()
    world.reconcile()
    assert world.state("mail", 1) is ServingState.END
    assert world.events[-1] == ("serving.ended", "mail", 1)


def test_a_version_made_available_again_while_it_drains_needs_no_loading(world: World) -> None:
    world.publish("mail", 1)
    lease = world.lease("mail@1", "r1")
    world.set_state("mail", 1, VersionState.RETIRED)
    world.reconcile()
    world.set_state("mail", 1, VersionState.AVAILABLE)
    with world.lease("mail@1", "r2") as again:
        assert again.slot == lease.slot
    world.set_state("mail", 1, VersionState.RETIRED)
    world.reconcile()
    world.set_state("mail", 1, VersionState.AVAILABLE)
    world.reconcile()
    assert world.state("mail", 1) is ServingState.AVAILABLE


def test_a_lack_of_memory_is_no_damage_of_the_version_and_it_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.publish("mail", 1)
    world.alias("mail", champion=1)

    def out_of_memory(*_: Any) -> None:
        raise MemoryError("no memory left")

    with monkeypatch.context() as patched:
        patched.setattr(world.engine, "install", out_of_memory)
        world.reconcile()
    assert world.state("mail", 1) is ServingState.ERROR
    assert world.manager.damage("mail", 1) == ""
    world.reconcile(after=RETRY_S)
    assert world.state("mail", 1) is ServingState.AVAILABLE


def test_versions_and_aliases_change_in_one_moment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.publish("mail", 1, 2)
    world.alias("mail", champion=1)
    world.lease("mail").release()
    world.lease("mail@2").release()
    settled: list[int] = []
    roster = world.manager._roster
    settle = roster.settle

    def look() -> None:
        settle()
        settled.append(roster.catalog.resolve(AdapterRef.parse("mail"), "r", lambda _key: True).key.version)

    monkeypatch.setattr(roster, "settle", look)
    digests = {version: world.digests["mail", version] for version in (1, 2)}
    states = {1: VersionState.DELETED, 2: VersionState.AVAILABLE}
    versions = {version: VersionInfo(version, digests[version], state) for version, state in states.items()}
    world.manager.set_aliases("mail", {"champion": Served(2, digests[2])}, versions=versions)
    assert settled == [2]


def test_what_a_request_has_loaded_is_its_own_before_anybody_else_may_have_the_slot(world: World) -> None:
    world.publish("mail", 1, 2, 3, 4)
    others = [world.lease(f"mail@{version}", f"other{version}") for version in (2, 3)]

    def take_the_slot(seconds: float) -> None:
        with pytest.raises(NoFreeSlot):
            world.lease("mail@4", "late")

    world.manager._on_loaded = take_the_slot
    with world.lease("mail@1", "first") as lease:
        assert lease.version == 1
    for other in others:
        other.release()


def test_a_request_whose_event_cannot_be_told_holds_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.publish("mail", 1)

    def full_disk(*_: Any) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(world.manager, "_on_event", full_disk)
        with pytest.raises(OSError, match="no space"):
            world.lease("mail@1")
    assert world.manager.usage().leases == 0
    world.lease("mail@1").release()


def test_what_was_deleted_while_it_was_loaded_is_leased_by_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.publish("mail", 1)
    install = world.engine.install

    def delete_meanwhile(slot: int, adapter: Any) -> None:
        install(slot, adapter)
        world.set_state("mail", 1, VersionState.DELETED)

    monkeypatch.setattr(world.engine, "install", delete_meanwhile)
    with pytest.raises(VersionNotServable, match="deleted"):
        world.lease("mail@1")
    assert world.manager.usage().leases == 0


def test_a_forgotten_version_is_gone_for_new_requests_at_once(world: World) -> None:
    world.publish("mail", 1, 2)
    world.alias("mail", champion=2)
    lease = world.lease("mail@1")
    world.manager.forget("mail", 1)
    with pytest.raises(UnknownAdapter):
        world.lease("mail@1", "r2")
    assert world.answer(lease.slot)
    assert world.state("mail", 1) is ServingState.DRAINING
    lease.release()
    world.reconcile()
    assert world.state("mail", 1) is ServingState.END
    world.lease("mail@2").release()
    world.manager.forget("mail", 2)
    assert world.state("mail", 2) is ServingState.END
    world.manager.forget("mail", 9)


def test_reconciling_what_is_reconciled_does_nothing(world: World) -> None:
    world.publish("mail", 1, 2)
    world.alias("mail", champion=2, previous=1)
    world.reconcile()
    told = len(world.events)
    world.reconcile(after=100)
    assert len(world.events) == told


def test_a_stopped_engine_is_told_to_whoever_asks(world: World) -> None:
    world.publish("mail", 1)
    world.alias("mail", champion=1)
    world.engine.stop()
    with pytest.raises(EngineStopped):
        world.reconcile()
    with pytest.raises(EngineStopped):
        world.lease("mail")


def test_no_request_is_answered_by_another_version_while_aliases_move(world: World) -> None:
    """Threads ask for whatever the champion is while it moves among more versions than there are slots."""
    versions = range(1, 6)
    world.publish("mail", *versions)
    truth: Mapping[int, tuple[float, ...]] = {}
    truth = {}
    for version in versions:
        with world.lease(f"mail@{version}") as lease:
            truth[version] = tuple(world.answer(lease.slot))
    assert len(set(truth.values())) == 5
    world.alias("mail", champion=1)
    stop = threading.Event()

    def ask(thread: int) -> set[int]:
        seen, rng = set(), random.Random(thread)
        count = 0
        while not stop.is_set():
            ref = rng.choice(["mail", "mail", f"mail@{rng.choice(versions)}"])
            try:
                lease = world.lease(ref, f"{thread}-{count}")
            except NoFreeSlot:
                continue
            with lease:
                count += 1
                seen.add(lease.version)
                assert world.answer(lease.slot) == pytest.approx(truth[lease.version], abs=1e-4)
        return seen

    with ThreadPoolExecutor(4) as pool:
        askers = [pool.submit(ask, thread) for thread in range(4)]
        try:
            for step in range(25):
                world.alias("mail", champion=1 + step % 5)
                world.reconcile(after=40)
        finally:
            stop.set()
        assert len({version for asker in askers for version in asker.result(60)}) > 1
    assert world.manager.usage().leases == 0
