"""Tensors side by side in one block of bytes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from carousel_server.runtime.ondevice.layout import ALIGNMENT, Layout, Port

PORTS = st.lists(
    st.tuples(
        st.sampled_from(["<f4", "<f2", "<f8", "<i8", "<i4", "|b1"]),
        st.lists(st.integers(1, 5), max_size=3).map(tuple),
    ),
    max_size=6,
)


def layout(described):
    return Layout.of(
        [Port(f"t{n}", np.dtype(dtype), shape) for n, (dtype, shape) in enumerate(described)]
    )


@given(PORTS)
def test_each_tensor_has_bytes_of_its_own(described):
    made = layout(described)
    block = np.zeros(made.nbytes, np.uint8)
    views = made.views(block)
    rng = np.random.default_rng(0)
    written = {}
    for port in made.ports:
        written[port.name] = rng.integers(0, 2, port.shape).astype(port.dtype)
        views[port.name][...] = written[port.name]
    for name, value in made.views(block).items():
        np.testing.assert_array_equal(value, written[name])


@given(PORTS)
def test_tensors_begin_where_kernels_want_them(described):
    made = layout(described)
    assert all(offset % ALIGNMENT == 0 for offset in made.offsets)
    ends = [o + p.nbytes for o, p in zip(made.offsets, made.ports, strict=True)]
    assert made.nbytes >= max(ends, default=0)
