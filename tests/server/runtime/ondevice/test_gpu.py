"""On a GPU: the equalities that the other tests show on the CPU provider.

None of this has run yet: it is skipped where there is no GPU, and says so.
"""

from __future__ import annotations

import threading

import numpy as np
import pytest

from carousel_server.errors import ModelFileError
from carousel_server.runtime.device import choose_device
from carousel_server.runtime.manifest import read_model
from carousel_server.runtime.ondevice import proof
from carousel_server.runtime.ondevice.choosing import DeviceOptions
from carousel_server.runtime.ondevice.devicemodel import DeviceModel
from carousel_server.runtime.opening import open_model
from tests.support import models
from tests.support.gpu import needs_gpu
from tests.support.loaded import load
from tests.support.ondevice import inputs
from tests.support.recurrent import CELLS, cell

SLOTS = 4096


def on_gpu(folder, made, *, slots=SLOTS, **options) -> DeviceModel:
    device, _ = choose_device("cuda")
    file = read_model(models.put(folder, made))
    chosen = DeviceOptions(**options)
    return open_model(file, device=device, slots=slots, threads=1, options=chosen)


def worst(one, other):
    return float((np.abs(one - other) / np.maximum(1, np.abs(other))).max())


@needs_gpu
@pytest.mark.parametrize("autotune", [False, True])
@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("math", proof.TOLERANCE)
def test_sessions_in_ragged_chunks_are_as_on_the_cpu(tmp_path, name, math, autotune):
    made = cell(name, layers=2, hidden=128, features=16)
    ours = on_gpu(tmp_path, made, math=math, autotune=autotune)
    ordinary = load(tmp_path, made, slots=SLOTS)
    assert ours.steps is not None, "its steps are captured"
    rng = np.random.default_rng(0)
    for rows in (1, 3, 100, 1000, 4096):
        slots = rng.permutation(np.arange(1, SLOTS + 1))[:rows]
        lengths = rng.integers(1, 6, rows)
        values = inputs(ours, rng, int(lengths.max()), rows)
        came, bad = ours.run(slots, lengths, values)
        wanted, _ = ordinary.run(slots, lengths, values)
        within = np.arange(lengths.max())[:, None] < lengths
        assert not bad.any()
        assert worst(came["y"][within], wanted["y"][within]) < proof.TOLERANCE[math]
    everything = np.arange(1, SLOTS + 1)
    for state, value in ordinary.read(everything).items():
        assert worst(ours.read(everything)[state], value) < proof.TOLERANCE[math]


@needs_gpu
def test_captured_graphs_read_what_is_new(tmp_path):
    """Slots, inputs and states of each replay, while other buckets are captured and others run."""
    made = cell("lstm", layers=2, hidden=128, features=16)
    ours, ordinary = on_gpu(tmp_path, made), load(tmp_path, made, slots=SLOTS)
    rng = np.random.default_rng(1)
    for turn in range(200):
        rows = int(rng.choice([1, 2, 7, 64, 300]))
        slots = rng.permutation(np.arange(1, SLOTS + 1))[:rows]
        values = inputs(ours, rng, 1, rows)
        came, _ = ours.run(slots, np.ones(rows, np.int64), values)
        wanted, _ = ordinary.run(slots, np.ones(rows, np.int64), values)
        assert worst(came["y"], wanted["y"]) < 1e-4, f"turn {turn}"
    assert ours.counts.replays >= 200


@needs_gpu
def test_each_thread_captures_for_itself(tmp_path):
    made = cell("lstm", hidden=128)
    ours = on_gpu(tmp_path, made)
    values = inputs(ours, np.random.default_rng(0), 1, 4)
    slots, ones, seen = np.arange(1, 5), np.ones(4, np.int64), []
    wanted, _ = load(tmp_path, made, slots=8).run(slots, ones, values)
    thread = threading.Thread(target=lambda: seen.append(ours.run(slots, ones, values)[0]["y"]))
    thread.start()
    thread.join()
    assert worst(seen[0], wanted["y"]) < 1e-4


@needs_gpu
def test_models_capture_while_others_run(tmp_path):
    """A capture in CUDA's global mode must not meet another thread's calls."""
    device, _ = choose_device("cuda")
    file = read_model(models.put(tmp_path, cell("lstm", hidden=128)))
    errors = []

    def work(seed):
        try:
            model = open_model(file, device=device, slots=64, threads=1, options=DeviceOptions())
            rng = np.random.default_rng(seed)
            for rows in (1, 2, 4, 8, 16, 32, 64) * 5:
                values = inputs(model, rng, 1, rows)
                model.run(np.arange(1, rows + 1), np.ones(rows, np.int64), values)
        except Exception as error:  # noqa: BLE001 - it is looked at below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@needs_gpu
def test_rows_are_read_and_written(tmp_path):
    ours = on_gpu(tmp_path, cell("lstm", hidden=128))
    rng = np.random.default_rng(2)
    slots = rng.permutation(np.arange(1, SLOTS + 1))[:3000]
    rows = {s.name: rng.normal(size=(3000, 128)).astype(np.float32) for s in ours.spec.states}
    ours.write(slots, rows)
    for name, value in ours.read(slots).items():
        np.testing.assert_array_equal(value, rows[name])


@needs_gpu
def test_a_row_that_overflows_keeps_its_state(tmp_path):
    ours = on_gpu(tmp_path, models.exploding(), slots=8)
    x = np.float32([[1, 0], [1, 1]])
    slots, ones = np.array([3, 5]), np.ones(2, np.int64)
    for expected in ([False, False], [False, False], [True, True]):
        before = ours.read(slots)["s"]
        _, bad = ours.run(slots, ones, {"x": x})
        assert bad.tolist() == expected
    np.testing.assert_array_equal(ours.read(slots)["s"], before)


@needs_gpu
def test_an_operator_that_cuda_has_not_is_refused(tmp_path):
    with pytest.raises(ModelFileError, match="would run on the CPU") as caught:
        on_gpu(tmp_path, cell("lstm", opset=22), slots=8)
    assert "LSTM" in str(caught.value)
    on_gpu(tmp_path, cell("lstm", opset=22), slots=8, allow_cpu_nodes=True)


@needs_gpu
def test_the_device_tells_its_time_and_room(tmp_path):
    ours = on_gpu(tmp_path, cell("lstm", hidden=128))
    before = ours.run_seconds
    ours.run(np.array([1]), np.array([1]), inputs(ours, np.random.default_rng(0), 1, 1))
    assert 0 < ours.run_seconds - before < 1
    room = ours.memory.room()
    assert 0 < room.free < room.total


@needs_gpu
@pytest.mark.parametrize("autotune", [False, True])
def test_ticks_and_copies_beside_each_other_are_as_on_the_cpu(tmp_path, autotune):
    """Two ticks under way, states copied out and written in between: nobody waits for anybody."""
    made = cell("lstm", layers=2, hidden=128, features=16)
    ours, ordinary = on_gpu(tmp_path, made, autotune=autotune), load(tmp_path, made, slots=SLOTS)
    rng, halves = np.random.default_rng(3), np.split(np.arange(1, SLOTS + 1), 2)
    ahead, copies = None, []
    for turn in range(60):
        slots = rng.permutation(halves[turn % 2])[: int(rng.choice([1, 5, 64, 1000]))]
        lengths = rng.integers(1, int(rng.choice([1, 4])) + 1, len(slots))
        values = inputs(ours, rng, int(lengths.max()), len(slots))
        within = np.arange(lengths.max())[:, None] < lengths
        wanted = ordinary.run(slots, lengths, values)[0]["y"][within]
        begun = ours.start(slots, lengths, values)
        if ahead is not None:
            run, before, expected = ahead
            assert worst(run.finish()[0]["y"][before], expected) < 1e-4, f"turn {turn}"
        ahead = begun, within, wanted
        resting = rng.permutation(halves[1 - turn % 2])[:300]
        copies.append((ours.copy(resting), ordinary.read(resting)))
        states = ordinary.read(resting[:20])
        for model in (ours, ordinary):
            model.write(resting[-20:], states)
    ahead[0].finish()
    for copy, states in copies:
        for name, value in states.items():
            assert worst(copy.get()[name], value) < 1e-4
    assert ours.overlapped > 50
