"""A GPU's memory over a library that keeps books."""

from __future__ import annotations

import ctypes
import gc
import threading

import numpy as np
import pytest

from carousel_server.runtime.device import Device
from carousel_server.runtime.ondevice.cuda.cudart import Cudart
from carousel_server.runtime.ondevice.cuda.memory import CudaMemory
from carousel_server.runtime.ondevice.memory import Block, HostMemory, Room, Stream
from tests.support.fakecuda import OK, FakeCudart
from tests.support.loaded import load
from tests.support.ondevice import always_by_steps, inputs, open_on_device
from tests.support.recurrent import cell


@pytest.fixture
def library():
    return FakeCudart()


def memory_on(library, *, math="float32"):
    return CudaMemory(Device("cuda", 0), math=math, cudart=Cudart(library))


def block(nbytes):
    """Return bytes that stand for a GPU's."""
    kept = (ctypes.c_uint8 * nbytes)()
    return Block(ctypes.addressof(kept), nbytes, kept)


def test_the_provider_works_on_this_memorys_stream(library):
    memory = memory_on(library)
    assert memory.provider_options(capture=True) == {
        "device_id": "0",
        "user_compute_stream": str(memory._streams[Stream.COMPUTE]),
        "enable_cuda_graph": "1",
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": "0",
    }
    assert memory.provider_options(capture=False)["enable_cuda_graph"] == "0"
    assert int(memory.provider_options(capture=False)["user_compute_stream"]) in library.streams


@pytest.mark.parametrize(
    ("math", "tf32"), [("float32", "0"), ("tf32", "1"), ("float16", "0"), ("bfloat16", "0")]
)
def test_short_products_only_where_they_were_asked_for(library, math, tf32):
    """The provider's own default is to make them."""
    assert memory_on(library, math=math).provider_options(capture=False)["use_tf32"] == tf32


def test_staging_is_pinned_and_given_back(library):
    memory = memory_on(library)
    staged = memory.staging(64)
    assert list(library.pinned) == [staged.ctypes.data]
    part = staged[10:20]
    del staged
    gc.collect()
    assert library.pinned, "a part of it is still used"
    del part
    gc.collect()
    assert not library.pinned


def test_copies_go_through_the_stream_and_are_counted(library):
    memory, there = memory_on(library), block(16)
    source, back = memory.staging(16), memory.staging(8)
    memory.upload(source, there, Stream.COMPUTE)
    source[:] = np.arange(16)
    memory.download(there, back, Stream.COMPUTE)
    assert not back.any()
    memory.wait_for_all()
    assert back.tolist() == list(range(8))
    traffic = memory.traffic
    assert (traffic.copies_in, traffic.bytes_in) == (1, 16)
    assert (traffic.copies_out, traffic.bytes_out) == (1, 8)


def test_nothing_is_no_copy(library):
    memory = memory_on(library)
    memory.upload(memory.staging(0), block(1), Stream.COMPUTE)
    memory.download(block(1), memory.staging(0), Stream.COMPUTE)
    assert "cudaMemcpyAsync" not in library.calls
    assert memory.traffic.copies_in == memory.traffic.copies_out == 0


def test_the_clock(library):
    memory = memory_on(library)
    first, last = memory.event(timed=True), memory.event(timed=True)
    memory.record(first, Stream.COMPUTE)
    memory.record(last, Stream.COMPUTE)
    memory.wait(last)
    assert memory.seconds(first, last) == pytest.approx(0.25)


def test_streams_go_on_beside_each_other_but_for_what_they_wait_for(library):
    memory, there, other = memory_on(library), block(4), block(4)
    source, back = memory.staging(4), memory.staging(4)
    source[:] = [1, 2, 3, 4]
    arrived, ran, done = (memory.event() for _ in range(3))
    memory.upload(source, there, Stream.INWARD)
    memory.record(arrived, Stream.INWARD)
    memory.hold(Stream.COMPUTE, arrived)
    memory.move(there, other)
    memory.record(ran, Stream.COMPUTE)
    memory.hold(Stream.OUTWARD, ran)
    memory.download(other, back, Stream.OUTWARD)
    memory.record(done, Stream.OUTWARD)
    assert not memory.passed(done)
    memory.wait(done)
    assert memory.passed(arrived)
    assert back.tolist() == [1, 2, 3, 4]


def test_room_and_name(library):
    memory = memory_on(library)
    assert memory.room() == Room(2**29, 2**30)
    assert memory.name == "Imaginary 1000"


def test_each_thread_works_on_this_gpu(library):
    memory = memory_on(library)
    library.calls.clear()
    memory.event()
    assert "cudaSetDevice" not in library.calls, "this one does already"
    thread = threading.Thread(target=memory.event)
    thread.start()
    thread.join()
    assert library.calls.count("cudaSetDevice") == 1


def test_streams_and_events_end_with_it(library):
    memory = memory_on(library)
    event = memory.event()
    assert len(library.streams) == len(Stream)
    assert len(library.events) == 1
    del event
    gc.collect()
    assert not library.events
    del memory
    gc.collect()
    assert not library.streams
    assert not library.events


def test_models_on_one_gpu_share_its_gate(library):
    device = Device("cuda", 0)
    one, other = (CudaMemory(device, math="float32", cudart=Cudart(library)) for _ in range(2))
    assert one.gate is other.gate
    assert not {*one._streams.values()} & {*other._streams.values()}


@pytest.mark.parametrize("way", ["upload", "download"])
def test_a_copy_stays_within_its_block(way):
    memory = HostMemory()
    small, large = memory.block(4), memory.staging(5)
    pair = (large, small) if way == "upload" else (small, large)
    with pytest.raises(ValueError, match="5 bytes don't fit into a block of 4"):
        getattr(memory, way)(*pair, Stream.COMPUTE)


class OnHost(CudaMemory):
    """A GPU's memory whose blocks the CPU provider can read: with its stream, pins and clock."""

    def __init__(self, library):
        super().__init__(Device("cuda", 0), math="float32", cudart=Cudart(library))
        self.device, self._host = Device("cpu"), HostMemory()

    def block(self, nbytes):
        return self._host.block(nbytes)


class Eager(FakeCudart):
    """Copies at once, as the CPU provider runs at once."""

    def cudaMemcpyAsync(self, target, source, nbytes, kind, stream):
        ctypes.memmove(target, source, nbytes)
        return OK


def test_a_model_through_the_whole_of_it(tmp_path):
    library = Eager()
    model = open_on_device(tmp_path, cell("lstm", layers=2), memory=OnHost(library), autotune=True)
    always_by_steps(model)
    ordinary = load(tmp_path, cell("lstm", layers=2))
    rng = np.random.default_rng(0)
    schedule = [[1, 1, 1], [3, 1, 2], [1], [2, 2]]
    for number, lengths in enumerate(schedule * 2):
        if number == len(schedule):
            library.calls.clear()
        given, slots = np.array(lengths), rng.permutation(np.arange(1, 9))[: len(lengths)]
        values = inputs(model, rng, max(lengths), len(lengths))
        came, _ = model.run(slots, given, values)
        wanted, _ = ordinary.run(slots, given, values)
        within = np.arange(max(lengths))[:, None] < given
        np.testing.assert_allclose(came["y"][within], wanted["y"][within], atol=1e-5)
    slots = np.arange(1, 9)
    for name, value in ordinary.read(slots).items():
        np.testing.assert_allclose(model.read(slots)[name], value, atol=1e-5)
        if number < len(schedule):
            model.read(np.arange(1, 9))
    assert model.run_seconds == pytest.approx(2 * len(schedule) * 0.25)
    assert "cudaMemcpyAsync" in library.calls
    assert "cudaHostAlloc" not in library.calls, "staging is made once"
    model.close()
    del model
    gc.collect()
    assert not library.pinned
    assert not library.streams


class Watched(Eager):
    """Says which calls came while nobody had gone through the gate."""

    def __init__(self):
        super().__init__()
        self.gate, self.outside = None, set()

    def _counted(self, name, run):
        counted = super()._counted(name, run)

        def watched(*arguments):
            if self.gate is not None and not (self.gate._inside or self.gate._changed._is_owned()):
                self.outside.add(name)
            return counted(*arguments)

        return watched


def test_nothing_is_asked_of_the_device_while_another_captures(tmp_path):
    """Everything but freeing goes through the gate, in which a capture is alone."""
    library = Watched()
    memory = OnHost(library)
    library.gate = memory.gate
    model = always_by_steps(open_on_device(tmp_path, cell("lstm"), memory=memory, autotune=True))
    values = inputs(model, np.random.default_rng(0), 3, 5)
    model.run(np.arange(1, 6), np.array([3, 1, 2, 1, 1]), values)
    model._tuning = None
    model.run(np.arange(1, 6), np.array([3, 1, 2, 1, 1]), values)
    model.read(np.arange(1, 9))
    memory.room()
    assert "cudaMemcpyAsync" in library.calls
    assert "cudaHostAlloc" in library.calls
    assert library.outside <= {"cudaFreeHost"}, "what is freed is freed when nobody has it any more"
