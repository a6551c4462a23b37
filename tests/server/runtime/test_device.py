"""Which device is chosen, and what is said where there is no GPU."""

from __future__ import annotations

import onnxruntime as ort
import pytest

from carousel_server.errors import DeviceError
from carousel_server.runtime.device import Device, choose_device

pytestmark = pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(),
    reason="this ONNX Runtime offers CUDA; these tests are about one that does not",
)


def test_cpu_is_given_when_asked_for_and_where_there_is_nothing_else():
    assert choose_device("cpu") == (Device("cpu"), "asked for")
    assert choose_device("auto") == (Device("cpu"), "no GPU: this ONNX Runtime offers no CUDA")


@pytest.mark.parametrize("wanted", ["cuda", "cuda:3"])
def test_a_gpu_that_is_not_there(wanted):
    with pytest.raises(DeviceError, match=f"--device {wanted} was asked for, but") as caught:
        choose_device(wanted)
    assert "carousel-server[gpu], or use --device cpu" in str(caught.value)


def test_devices_in_words():
    assert [str(Device("cpu")), str(Device("cuda", 1))] == ["cpu", "cuda:1"]
