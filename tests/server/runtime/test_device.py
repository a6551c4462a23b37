"""Which device is chosen, and what is said where there is no GPU."""

from __future__ import annotations

import onnxruntime as ort
import pytest

from carousel_server.errors import DeviceError
from carousel_server.runtime import device, placement
from carousel_server.runtime.device import Device, choose_device
from carousel_server.runtime.ondevice.cuda.cudart import Cudart
from tests.support.fakecuda import NO_DEVICE, FakeCudart

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@pytest.fixture
def offered(monkeypatch):
    """Have ONNX Runtime offer what a test says, and CUDA's library give an error if it says so."""

    def offer(*providers, code=0):
        library = FakeCudart()
        library.fails["cudaMemGetInfo"] = code
        monkeypatch.setattr(ort, "get_available_providers", lambda: list(providers))
        monkeypatch.setattr(ort, "preload_dlls", lambda: print("a library is missing"))  # noqa: T201
        monkeypatch.setattr(device, "Cudart", lambda: Cudart(library))

    offer(CPU)
    return offer


def test_cpu_is_given_when_asked_for_and_where_there_is_nothing_else(offered):
    assert choose_device("cpu") == (Device("cpu"), "asked for")
    assert choose_device("auto") == (Device("cpu"), "no GPU: this ONNX Runtime offers no CUDA")


@pytest.mark.parametrize("wanted", ["cuda", "cuda:3"])
def test_a_gpu_that_is_not_there(offered, wanted):
    with pytest.raises(DeviceError, match=f"--device {wanted} was asked for, but") as caught:
        choose_device(wanted)
    assert "carousel-server[gpu], or use --device cpu" in str(caught.value)


def test_devices_in_words():
    assert [str(Device("cpu")), str(Device("cuda", 1))] == ["cpu", "cuda:1"]


@pytest.mark.parametrize(
    ("wanted", "index", "why"),
    [("cuda", 0, "asked for"), ("cuda:0", 0, "asked for"), ("auto", 0, "a GPU is there")],
)
def test_a_gpu_that_is_there(offered, capsys, wanted, index, why):
    offered(CUDA, CPU)
    assert choose_device(wanted) == (Device("cuda", index), why)
    assert not capsys.readouterr().out, "standard output has one line, and that is another one"


def test_a_gpu_that_cant_be_used(offered):
    """As with an ONNX Runtime for GPUs on a machine without one."""
    offered(CUDA, CPU, code=NO_DEVICE)
    chosen, why = choose_device("auto")
    assert chosen == Device("cpu")
    assert why == "no GPU: cudaMemGetInfo: no device (100)"
    with pytest.raises(
        DeviceError, match="cuda was asked for, but it can't be used: cudaMemGetInfo"
    ):
        choose_device("cuda")


def test_a_gpu_with_a_number_that_none_has(offered):
    offered(CUDA, CPU)
    with pytest.raises(DeviceError, match=r"cuda:3 was asked for.*cudaSetDevice: no device"):
        choose_device("cuda:3")


def test_a_provider_that_could_not_be_loaded():
    """ONNX Runtime goes on without it, and says nothing."""

    class Without:
        def get_providers(self):
            return [CPU]

    assert placement.missing_provider(Without(), Device("cpu")) is None
    assert "could not load its CUDAExecutionProvider" in placement.missing_provider(
        Without(), Device("cuda")
    )
