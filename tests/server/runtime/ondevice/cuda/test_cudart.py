"""The calls that CUDA's library gets, and what becomes of its errors."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from carousel_server.runtime.ondevice.cuda import cudart as module
from carousel_server.runtime.ondevice.cuda.cudart import CudaError, Cudart
from tests.support.fakecuda import NO_DEVICE, NO_MEMORY, FakeCudart


@pytest.fixture
def library():
    return FakeCudart()


@pytest.fixture
def cudart(library):
    return Cudart(library)


def test_every_function_is_declared(library, cudart):
    for name, arguments in module._SIGNATURES.items():
        function = getattr(library, name)
        assert function.argtypes == arguments
        assert function.restype is ctypes.c_int


def test_addresses_of_64_bits_pass_whole():
    """An int that nobody declared would be cut to 32 bits."""
    assert module._SIGNATURES["cudaMemcpyAsync"][:3] == (
        ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t,
    )  # fmt: skip


def test_copies_are_queued(library, cudart):
    stream = cudart.stream()
    source, device, back = (np.zeros(4, np.uint8) for _ in range(3))
    cudart.upload(source, device.ctypes.data, stream)
    cudart.download(device.ctypes.data, back, stream)
    source[:] = [1, 2, 3, 4]
    assert not back.any()
    cudart.wait(stream)
    assert back.tolist() == [1, 2, 3, 4]
    cudart.destroy_stream(stream)
    assert not library.streams


def test_time_is_the_devices(cudart):
    stream, first, last = cudart.stream(), cudart.event(timed=True), cudart.event(timed=True)
    cudart.record(first, stream)
    cudart.record(last, stream)
    cudart.wait(stream)
    assert cudart.seconds_between(first, last) == pytest.approx(0.25)


def test_a_stream_waits_for_another_ones_event(cudart):
    one, other, event = cudart.stream(), cudart.stream(), cudart.event(timed=False)
    source, between, back = (np.zeros(4, np.uint8) for _ in range(3))
    source[:] = 7
    cudart.upload(source, between.ctypes.data, one)
    cudart.record(event, one)
    cudart.hold(other, event)
    cudart.move(between.ctypes.data, back.ctypes.data, 4, other)
    assert not cudart.passed(event)
    cudart.wait(other)
    assert back.tolist() == [7] * 4
    assert cudart.passed(event)
    cudart.wait_for(event)


def test_a_question_is_no_error_but_may_meet_one(library, cudart):
    event = cudart.event(timed=False)
    assert cudart.passed(event), "nothing was recorded"
    library.fails["cudaEventQuery"] = 700
    with pytest.raises(CudaError, match=r"cudaEventQuery: invalid argument \(700\)"):
        cudart.passed(event)


def test_memory(library, cudart):
    assert cudart.memory_info() == (2**29, 2**30)
    address = cudart.pinned(100)
    assert list(library.pinned) == [address]
    cudart.free_pinned(address)
    assert not library.pinned


@pytest.mark.parametrize("newer", [False, True])
def test_a_gpus_name(newer):
    library = FakeCudart()
    if newer:  # CUDA 12 calls it so
        library.cudaGetDeviceProperties_v2 = library.cudaGetDeviceProperties
        library.cudaGetDeviceProperties = None
    assert Cudart(library).device_name(0) == "Imaginary 1000"


@pytest.mark.parametrize(
    ("function", "code", "call"),
    [
        ("cudaHostAlloc", NO_MEMORY, lambda c: c.pinned(1)),
        ("cudaStreamSynchronize", 700, lambda c: c.wait(1)),
        ("cudaMemGetInfo", NO_DEVICE, lambda c: c.memory_info()),
    ],
)
def test_an_error_says_what_failed(library, cudart, function, code, call):
    library.fails[function] = code
    with pytest.raises(CudaError, match=rf"{function}: .* \({code}\)"):
        call(cudart)


def test_no_library(monkeypatch):
    monkeypatch.setattr(module, "_NAMES", ("libnot-there.so.1",))
    with pytest.raises(CudaError, match="is not there: libnot-there"):
        Cudart()


def test_the_library_itself_where_it_is():
    """Signatures against a real one; without a GPU it says so, in CUDA's own words."""
    try:
        cudart = Cudart()
    except CudaError:
        pytest.skip("CUDA's runtime library is not on this machine")
    try:
        free, total = cudart.memory_info()
    except CudaError as error:
        said = str(error)
    else:
        assert 0 < free <= total
        return
    assert said.startswith("cudaMemGetInfo: ")
    assert "unknown" not in said
