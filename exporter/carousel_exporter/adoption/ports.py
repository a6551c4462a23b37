"""The inputs and outputs of a graph, as they are declared."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import onnx

from carousel.wire import DATA_TYPES
from carousel_exporter.adoption.options import Size
from carousel_exporter.errors import ModelFileError, SettingsError
from carousel_exporter.wording import counted

#: Bytes of one row of an input: what a server takes in a message, by default.
MOST_BYTES: Final = 64 << 20

Dims = tuple[int | str, ...]


@dataclass(frozen=True)
class Port:
    """An input or output: `dims` has a number where a size is fixed and a symbol where it is open.

    Open axes without a name of their own get one: `name:axis`.
    """

    name: str
    dtype: np.dtype[np.generic]
    dims: Dims

    @property
    def repeats_itself(self) -> bool:
        """Whether two open axes have one name, which then says nothing."""
        names = [dim for dim in self.dims if isinstance(dim, str)]
        return len({*names}) < len(names)

    def apart(self) -> Port:
        """Return the same port with a symbol of its own for each open axis."""
        dims = [d if isinstance(d, int) else f"{self.name}:{k}" for k, d in enumerate(self.dims)]
        return replace(self, dims=tuple(dims))

    @property
    def rank(self) -> int:
        """How many axes there are."""
        return len(self.dims)


def read_inputs(graph: onnx.GraphProto) -> list[Port]:
    """Return the inputs that a caller gives. Raises ModelFileError for what can't be served."""
    weights = {tensor.name for tensor in graph.initializer}
    ports = [_port(value) for value in graph.input if value.name not in weights]
    if not ports:
        raise ModelFileError(
            "The graph has no inputs, so there is nothing to stream: export it with its inputs and "
            "its states as inputs."
        )
    return ports


def output_dtypes(graph: onnx.GraphProto) -> dict[str, np.dtype[np.generic]]:
    """Return the types of the outputs; declared shapes are not worth reading."""
    return {value.name: _dtype(value, "output") for value in graph.output}


def with_sizes(ports: list[Port], sizes: tuple[Size, ...]) -> list[Port]:
    """Fix open axes. Raises SettingsError where there is no such axis, or it has another size."""
    fixed: dict[str, int] = {}
    for size in sizes:
        port = find(ports, size.input, "--size")
        axis = checked_axis(port, size.axis, "--size")
        dim = port.dims[axis]
        if isinstance(dim, int) and dim != size.size:
            raise SettingsError(
                f"--size {size}: that axis is fixed at {dim}, and can't have another size."
            )
        fixed[str(dim)] = size.size
    return [replace(p, dims=tuple(fixed.get(str(d), d) for d in p.dims)) for p in ports]


def check_sizes(ports: list[Port]) -> None:
    """Refuse tensors of which one row is too large to try. Raises ModelFileError."""
    for port in ports:
        sizes = [dim for dim in port.dims if isinstance(dim, int)]
        size = math.prod(sizes) * port.dtype.itemsize
        if size > MOST_BYTES:
            raise ModelFileError(
                f"Input {port.name!r} holds {size:,} bytes a row, with the sizes {sizes}, and "
                f"{MOST_BYTES:,} at most are tried: export it with the sizes that it really has, "
                "or open the axes that count rows and steps."
            )


def find(ports: list[Port], name: str, option: str) -> Port:
    """Return the port of a name. Raises SettingsError that lists the names there are."""
    for port in ports:
        if port.name == name:
            return port
    names = ", ".join(repr(port.name) for port in ports)
    raise SettingsError(f"{option} names the input {name!r}, and the inputs are {names}.")


def checked_axis(port: Port, axis: int, option: str) -> int:
    """Return an axis counted from the front. Raises SettingsError where there is none."""
    if not -port.rank <= axis < port.rank:
        raise SettingsError(
            f"{option} names axis {axis} of {port.name!r}, which has {counted(port.rank, 'axis')}."
        )
    return axis % port.rank


def _port(value: onnx.ValueInfoProto) -> Port:
    dtype = _dtype(value, "input")
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        raise ModelFileError(
            f"Input {value.name!r} declares no shape, not even a number of axes: export it with "
            "shapes, open axes as dynamic ones."
        )
    dims: list[int | str] = []
    for axis, dim in enumerate(tensor.shape.dim):
        # Some exporters write -1 or 0 for an open axis.
        open_name = dim.dim_param or f"{value.name}:{axis}"
        dims.append(dim.dim_value if dim.dim_value > 0 else open_name)
    return Port(value.name, dtype, tuple(dims))


def _dtype(value: onnx.ValueInfoProto, kind: str) -> np.dtype[np.generic]:
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.elem_type:
        raise ModelFileError(
            f"The {kind} {value.name!r} is no tensor, and only tensors can be served: export the "
            "graph with tensors alone."
        )
    code = value.type.tensor_type.elem_type
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(code))
    except KeyError:
        dtype = np.dtype(np.object_)
    known = DATA_TYPES.get(dtype.newbyteorder("<").str)
    if known is None or onnx.helper.np_dtype_to_tensor_dtype(dtype) != code:
        name = onnx.TensorProto.DataType.Name(code).lower()
        raise ModelFileError(
            f"The {kind} {value.name!r} is {name}, which can't be sent; floats of 16, 32 and 64 "
            "bits, signed integers, uint8 and bool can: cast it in the graph."
        )
    return dtype
