"""What the `.proto` files can only say in comments: element types, columns, the metadata key.

Everything here is a plain value, so that both ends and the exporter agree without sharing code.
The dtype strings are numpy's, always little-endian.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from carousel.v1 import tensor_pb2

#: Key of a model file's metadata under which its `ModelManifest` lies, as JSON.
MANIFEST_KEY: Final = "carousel.manifest"

#: The newest `ModelManifest.format` that this code knows.
MANIFEST_FORMAT: Final = 1

#: numpy's name for each `DataType`.
NUMPY_DTYPES: Final[Mapping[tensor_pb2.DataType.ValueType, str]] = MappingProxyType(
    {
        tensor_pb2.DATA_TYPE_FLOAT32: "<f4",
        tensor_pb2.DATA_TYPE_FLOAT64: "<f8",
        tensor_pb2.DATA_TYPE_FLOAT16: "<f2",
        tensor_pb2.DATA_TYPE_INT8: "|i1",
        tensor_pb2.DATA_TYPE_INT16: "<i2",
        tensor_pb2.DATA_TYPE_INT32: "<i4",
        tensor_pb2.DATA_TYPE_INT64: "<i8",
        tensor_pb2.DATA_TYPE_UINT8: "|u1",
        tensor_pb2.DATA_TYPE_BOOL: "|b1",
    }
)

#: The `DataType` of each numpy dtype string (`numpy.dtype(...).newbyteorder("<").str`).
DATA_TYPES: Final[Mapping[str, tensor_pb2.DataType.ValueType]] = MappingProxyType(
    {name: value for value, name in NUMPY_DTYPES.items()}
)

#: Widths of the columns in step messages.
HANDLE_DTYPE: Final = "<u8"
LENGTH_DTYPE: Final = "<u4"
STEP_COUNT_DTYPE: Final = "<u8"
ROW_DTYPE: Final = "<u4"
STATUS_DTYPE: Final = "|u1"

#: The most characters in a session's id.
MAX_ID_LENGTH: Final = 128

#: The most bytes in one gRPC message, at both ends, by default.
DEFAULT_MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024

#: The least such bound: what says how a model is made, or that a message failed, must fit in too.
LEAST_MAX_MESSAGE_BYTES: Final = 64 * 1024
