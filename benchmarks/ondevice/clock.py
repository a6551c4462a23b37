"""Times of calls that end when all of their work is done, and what a device does at its best."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.ondevice.cases import Rates

_WARM_UP, _LEAST_RUNS = 2, 5
#: Calls of a measurement, however long they take.
LEAST_CALLS = _WARM_UP + _LEAST_RUNS
_DTYPES = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


def median_seconds(call: Callable[[], object], *, seconds: float) -> float:
    """Return the median time of a call, from calls that take so long together, and some more."""
    for _ in range(_WARM_UP):
        call()
    times: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times) < _LEAST_RUNS:
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def rates(device: str, math: str, *, seconds: float) -> Rates:
    """Measure the device's copy and its matrix product, as large as they are fast."""
    on_gpu = device.startswith("cuda")
    allow_tf32(allowed=math == "tf32")
    count, size = (2**28, 8192) if on_gpu else (2**24, 1024)
    source = torch.ones(count, device=device)
    target = torch.empty_like(source)
    dtype = _DTYPES[math] if on_gpu else torch.float32
    one = torch.rand(size, size, device=device, dtype=dtype)
    product = torch.empty_like(one)

    def copy() -> None:
        target.copy_(source)
        synchronize(device)

    def multiply() -> None:
        torch.matmul(one, one, out=product)
        synchronize(device)

    copied = 2 * source.nbytes / median_seconds(copy, seconds=seconds)
    return Rates(copied, 2 * size**3 / median_seconds(multiply, seconds=seconds))


def allow_tf32(*, allowed: bool) -> None:
    """Have PyTorch's products on a GPU as short as ours may be, and no shorter."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def synchronize(device: str) -> None:
    """Wait for the device; a CPU is never behind."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
