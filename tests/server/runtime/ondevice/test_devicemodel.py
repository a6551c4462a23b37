"""A model in a device's memory, as the server has it."""

from __future__ import annotations

import gc
import random
import weakref

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from carousel_server.engine import transfers
from carousel_server.engine.status import RowStatus
from carousel_server.errors import DeviceError, ModelFileError, RunError
from carousel_server.runtime.ondevice import choosing, proof
from carousel_server.runtime.ondevice.fused import Fused
from carousel_server.runtime.ondevice.memory import HostMemory, Room
from carousel_server.runtime.ondevice.steps import Steps
from carousel_server.runtime.ondevice.tuning import Tuning
from carousel_server.trials import measure_cost, prove_shapes
from tests.support import models
from tests.support.bench import Bench, handles
from tests.support.deferred import DeferredMemory
from tests.support.loaded import load
from tests.support.ondevice import inputs, open_on_device
from tests.support.recurrent import CELLS, cell


def test_rows_are_read_and_written_in_pieces_of_any_size(tmp_path, monkeypatch):
    monkeypatch.setattr("carousel_server.runtime.ondevice.devicepool.LARGEST", 4)
    model = open_on_device(tmp_path, cell("lstm"), slots=20)
    rng = np.random.default_rng(0)
    slots = rng.permutation(np.arange(1, 21))[:13]
    rows = {s.name: rng.normal(size=(13, 8)).astype(np.float32) for s in model.spec.states}
    model.write(slots, rows)
    for order in (np.arange(13), np.array([12]), rng.permutation(13)[:7]):
        for name, value in model.read(slots[order]).items():
            np.testing.assert_array_equal(value, rows[name][order])
    for value in model.read(np.setdiff1d(np.arange(1, 21), slots)).values():
        assert not value.any(), "other rows stay"


def test_a_backup_is_what_was_there(tmp_path):
    model = open_on_device(tmp_path, models.running_sum(3))
    slots = np.array([3, 1, 8])
    model.write(slots, {"s": np.arange(9, dtype=np.float32).reshape(3, 3)})
    backup = model.pool.backup(slots)
    model.write(slots, {"s": np.zeros((3, 3), np.float32)})
    np.testing.assert_array_equal(backup.get()["s"].ravel(), np.arange(9))


def test_the_server_can_load_it(tmp_path):
    """With the trial runs that it makes of every model, and states that stay untouched."""
    model = open_on_device(tmp_path, cell("lstm"), slots=40)
    prove_shapes(model)
    cost = measure_cost(model)
    assert cost.row > 0
    assert cost.step > 0
    assert not model.read(np.arange(1, 41))["h0"].any()


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("math", ["float32", "float16"])
def test_single_steps_are_taken_apart_where_numbers_are_short(tmp_path, name, math):
    model = open_on_device(tmp_path, cell(name, layers=2), math=math)
    ordinary = load(tmp_path, cell(name, layers=2))
    rng, slots, ones = np.random.default_rng(0), np.arange(1, 6), np.ones(5, np.int64)
    worst = 0.0
    for _ in range(10):
        values = inputs(model, rng, 1, 5)
        came, _ = model.run(slots, ones, values)
        wanted, _ = ordinary.run(slots, ones, values)
        worst = max(worst, np.abs(came["y"] - wanted["y"]).max())
    assert worst < (1e-5 if math == "float32" else 2e-2)
    assert (worst > 1e-5) == (math == "float16")


def test_a_way_that_is_wrong_is_not_taken(tmp_path, monkeypatch):
    right = choosing.ways_of

    def wrong(file, *, math):
        ways, why_not = right(file, math=math)
        for tensor in ways[-1].graph.graph.initializer:
            if tensor.name.startswith("carousel/cell"):
                values = np.frombuffer(tensor.raw_data, np.float32)
                if values.size == 11 * 32:
                    tensor.raw_data = (values * 1.01).tobytes()
        return ways, why_not

    monkeypatch.setattr(choosing, "ways_of", wrong)
    measured = {}
    monkeypatch.setattr(
        choosing.Choosing,
        "_measured",
        lambda self, made: measured.update(made) or tuned(self, made),
    )
    model = open_on_device(tmp_path, cell("lstm"), autotune=True)
    assert list(measured) == ["operators"], "the other one differs by a hundredth"
    assert model.steps is not None


def tuned(choosing_, made):
    return Tuning({way: dict.fromkeys(choosing_.sizes, 1.0) for way in made}, {})


def test_control_flow_runs_plainly(tmp_path):
    made = models.running_sum()
    then = helper.make_graph(
        [helper.make_node("Identity", ["s_out"], ["picked"])],
        "then",
        [],
        [helper.make_tensor_value_info("picked", TensorProto.FLOAT, ["B", 2])],
    )
    made.graph.node[-1].input[0] = "chosen"
    made.graph.node.insert(
        1, helper.make_node("If", ["yes"], ["chosen"], then_branch=then, else_branch=then)
    )
    made.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model = open_on_device(tmp_path, made)
    assert model.steps is None
    came, _ = model.run(np.array([1]), np.array([1]), {"x": np.float32([[1, 2]])})
    assert came["y"].tolist() == [[1, 2]]


def test_a_capture_that_fails_is_done_without(tmp_path, monkeypatch):
    model = open_on_device(tmp_path, cell("lstm"))

    def fails(self, size, made):
        raise RuntimeError("out of memory while capturing")

    monkeypatch.setattr(Steps, "_capture", fails)
    values, captured = inputs(model, np.random.default_rng(0), 1, 3), model.counts.captures
    came, bad = model.run(np.array([1, 2, 3]), np.ones(3, np.int64), values)
    wanted, _ = load(tmp_path, cell("lstm")).run(np.array([1, 2, 3]), np.ones(3, np.int64), values)
    np.testing.assert_allclose(came["y"], wanted["y"], atol=1e-6)
    assert not bad.any()
    assert model.steps is None
    assert model.counts.captures == captured > 0, "a counter never falls"


class Full(HostMemory):
    """Memory that ends at the next block where it is told to."""

    full = False

    def block(self, nbytes):
        if self.full:
            raise RuntimeError("Failed to allocate memory for requested buffer")
        return super().block(nbytes)

    def room(self):
        return Room(8 * 1024, 10**9)


def test_out_of_memory_fails_a_tick_and_no_more(tmp_path):
    memory = Full()
    model = open_on_device(tmp_path, cell("lstm"), memory=memory)
    values = inputs(model, np.random.default_rng(0), 3, 2)
    memory.full = True
    with pytest.raises(RunError, match="Failed to allocate"):
        model.run(np.array([1, 2]), np.array([3, 3]), values)
    assert not model.read(np.array([1, 2]))["h0"].any()
    memory.full = False
    _, bad = model.run(np.array([1, 2]), np.array([3, 3]), values)
    assert not bad.any()


class Broken(HostMemory):
    """Memory of a device that fails when it is asked how far it is."""

    broken = False

    def passed(self, event):
        self.wait(event)
        return True

    def wait(self, event):
        if self.broken:
            raise RuntimeError("an illegal memory access was encountered")


def test_a_device_that_fails_says_so_when_the_tick_is_finished(tmp_path):
    model = open_on_device(tmp_path, cell("lstm"), memory=Broken())
    run = model.start(np.array([1]), np.array([1]), inputs(model, np.random.default_rng(0), 1, 1))
    model.memory.broken = True
    assert run.done, "to look at it raises nothing"
    with pytest.raises(RunError, match="illegal memory access"):
        run.finish()


def test_a_pool_that_is_too_large_is_told_what_fits(tmp_path):
    with pytest.raises(DeviceError, match="--slots 101 would fit"):
        open_on_device(tmp_path, cell("lstm"), memory=Full(), slots=200, pool_bytes=0.8)


def test_a_closed_model_is_gone(tmp_path):
    model = open_on_device(tmp_path, cell("lstm"))
    model.close()
    with pytest.raises(AttributeError):
        model.read(np.array([1]))


def test_a_closed_model_keeps_no_memory_though_it_is_known(tmp_path):
    """Counters of a version are read until it is forgotten."""
    model = open_on_device(tmp_path, cell("lstm"))
    values = inputs(model, np.random.default_rng(0), 1, 2)
    runs = [model.start(np.array(s), np.ones(2, np.int64), values) for s in ([1, 2], [3, 4])]
    for run in runs:
        run.finish()
    there = [weakref.ref(value) for value in model.pool.tensors.values()]
    exchanges = [weakref.ref(model.steps.exchange(size)) for size in model.steps.sizes]
    model.close()
    gc.collect()
    assert not any(ref() for ref in there)
    assert not any(ref() for ref in exchanges)
    assert model.overlapped == 1
    assert not model._lanes.nbytes


def test_shapes_that_are_let_go_are_freed_when_their_ticks_have_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("carousel_server.runtime.ondevice.fused._MAX_KEPT", 2)
    model = open_on_device(tmp_path, cell("lstm"), memory=DeferredMemory(0))
    rng, made = np.random.default_rng(0), []
    for steps in range(2, 8):
        values = inputs(model, rng, steps, 2)
        run = model.start(np.array([1, 2]), np.full(2, steps), values)
        for other in range(20, 23):  # that push it out while it is under way
            there = inputs(model, rng, other, 1)
            model.start(np.array([3]), np.full(1, other), there).finish()
        run.finish()
        made += [weakref.ref(exchange) for exchange in model._fused._kept.values()]
    gc.collect()
    alive = {id(ref()) for ref in made if ref() is not None}
    assert len(alive) == 2


def prover_of(tmp_path, made):
    model = open_on_device(tmp_path, made)
    return model, proof.Prover(model._file, model.pool)


@pytest.mark.parametrize("name", [*CELLS, "one step"])
def test_what_is_right_is_proved(tmp_path, name):
    made = models.running_sum(3) if name == "one step" else cell(name, layers=2)
    model, prover = prover_of(tmp_path, made)
    longest = 4 if model.spec.time_axis else 1
    assert prover.prove(model._fused.run, [(1, 1), (8, longest)]) < 1e-6
    assert prover.prove(model.steps.run, [(3, 1), (8, 1)]) < 1e-6
    assert not any(value.any() for value in model.read(np.arange(1, 9)).values()), "zeros are left"


def test_the_proof_sees_a_state_that_is_wrong(tmp_path):
    """Also where the answers of one step don't show it."""
    model, prover = prover_of(tmp_path, cell("lstm"))

    def forgetful(slots, lengths, inputs):
        result = model.steps.run(slots, lengths, inputs)
        model.write(slots, {n: v * 0.5 for n, v in model.read(slots).items()})
        return result

    assert prover.prove(forgetful, [(2, 1)]) > 1e-3


def test_the_proof_sees_a_step_too_many(tmp_path):
    model, prover = prover_of(tmp_path, cell("lstm"))

    def beyond(slots, lengths, inputs):
        return model._fused.run(slots, np.full(len(slots), lengths.max()), inputs)

    assert prover.prove(beyond, [(8, 4)]) > 1e-3


def test_the_proof_knows_rows_that_overflow(tmp_path):
    model, prover = prover_of(tmp_path, models.exploding())
    assert prover.prove(model._fused.run, [(4, 1)]) < 1e-6

    def careless(slots, lengths, inputs):
        outputs, bad = model._fused.run(slots, lengths, inputs)
        return outputs, ~bad

    with pytest.raises(RuntimeError, match="finite on one of the two"):
        prover.prove(careless, [(4, 1)])


@pytest.fixture
def wrong_kernels(monkeypatch):
    """Have a device on which runs of whole pieces come out wrong, as a provider's kernel may be."""
    right = Fused.run

    def wrong(self, slots, lengths, inputs):
        outputs, bad = right(self, slots, lengths, inputs)
        return {name: value * 1.01 + 0.01 for name, value in outputs.items()}, bad

    monkeypatch.setattr(Fused, "run", wrong)


def test_steps_take_the_place_of_pieces_that_are_wrong(tmp_path, wrong_kernels):
    model = open_on_device(tmp_path, cell("gru"))
    values = inputs(model, np.random.default_rng(0), 3, 2)
    came, _ = model.run(np.array([1, 2]), np.array([3, 3]), values)
    wanted, _ = load(tmp_path, cell("gru")).run(np.array([1, 2]), np.array([3, 3]), values)
    np.testing.assert_allclose(came["y"], wanted["y"], atol=1e-6)


def test_a_model_that_is_wrong_on_a_device_is_refused(tmp_path, wrong_kernels, monkeypatch):
    monkeypatch.setattr(choosing, "ways_of", lambda file, *, math: ([], "nothing can be captured"))
    with pytest.raises(
        ModelFileError, match=r"on cpu its answers differ by .* from those on the CPU"
    ):
        open_on_device(tmp_path, cell("gru"))


def test_sessions_are_told_apart_from_scratch(tmp_path):
    """What a GPU's memory begins with is anything: padding must not make good rows bad."""
    memory = HostMemory()
    model = open_on_device(tmp_path, cell("lstm"), memory=memory)
    model.pool.write(np.array([0]), {n: np.full((1, 8), np.nan, np.float32) for n in ("h0", "c0")})
    values = inputs(model, np.random.default_rng(0), 1, 3)
    _, bad = model.run(np.array([1, 2, 3]), np.ones(3, np.int64), values)
    assert not bad.any()


def test_an_engine_serves_it_with_more_sessions_than_slots(tmp_path):
    made = models.running_sum(dtype=models.FLOAT64)
    bench = Bench(open_on_device(tmp_path, made, slots=3))
    opened = bench.open(*"abcdefg")
    rng = np.random.default_rng(0)
    xs = [rng.integers(-9, 9, (9, 2)).astype(np.float64) for _ in opened]
    parts = []
    for begin, end in ((0, 1), (1, 4), (4, 9)):
        parts.append(bench.send({h: x[begin:end] for h, x in zip(opened, xs, strict=True)}))
    bench.drain()
    for row, x in enumerate(xs):
        answers = np.concatenate([message.outputs[row] for message in parts])
        np.testing.assert_array_equal(answers, np.cumsum(x, axis=0))


@pytest.mark.parametrize("seed", range(6))
def test_an_engine_serves_it_however_late_the_device_is(tmp_path, seed):
    """Ticks beside each other, sessions parked and copied out in between, rows that overflow."""
    made = models.running_sum(dtype=models.FLOAT64)
    memory = DeferredMemory(seed)
    model = open_on_device(tmp_path, made, slots=7, largest=2, memory=memory)
    bench = Bench(model, max_rows_per_tick=3)
    opened, rng = bench.open(*(f"s{number}" for number in range(12))), random.Random(seed)
    sent, copies = [], []
    for _ in range(80):
        rows = {
            handle: np.array([[rng.randint(-9, 9), rng.choice([1.0, 1.0, 1e308])]])
            for handle in rng.sample(opened, rng.randint(1, 4))
        }
        message = bench.send(rows)
        sent += [(handle, x[0], message, row) for row, (handle, x) in enumerate(rows.items())]
        if rng.random() < 0.3:
            chosen = rng.choice(opened)
            copies.append((chosen, bench.call(transfers.copy_out(handles(chosen)))))
        bench.turn(rng.randrange(3))
    bench.drain()
    sums = {handle: [np.zeros(2)] for handle in opened}
    for handle, x, message, row in sent:
        if message.status[row] == RowStatus.OK:
            sums[handle].append(sums[handle][-1] + x)
            assert message.outputs[row].tolist() == [sums[handle][-1].tolist()]
        elif message.status[row] == RowStatus.NUMERIC_FAULT:
            with np.errstate(over="ignore"):
                assert not np.isfinite(sums[handle][-1] + x).all()
    for handle, reply in copies:
        gathered = reply.result.value
        assert gathered.states["s"].tolist() == [sums[handle][int(gathered.steps[0])].tolist()]
    assert model.overlapped


def test_an_engine_has_one_row_fail_and_no_more(tmp_path):
    """A run that raises is repeated by halves, over states that no half of it has changed."""
    made = models.running_sum(dtype=models.FLOAT64)
    model = open_on_device(tmp_path, made, slots=8)
    start = model.start

    def crashing(slots, lengths, inputs):
        if (inputs["x"] == 13).any():
            raise RunError("thirteen")
        return start(slots, lengths, inputs)

    model.start = crashing
    bench = Bench(model)
    opened = bench.open(*"abcde")
    message = bench.send(
        {h: [[13.0 if place == 2 else place, 1.0]] for place, h in enumerate(opened)}
    )
    bench.drain()
    failed = [place for place, status in message.status.items() if status == RowStatus.MODEL_ERROR]
    assert failed == [2]
    assert message.outputs[4].tolist() == [[4.0, 1.0]]
