"""How ONNX Runtime sessions are set up, and what they raise."""

from __future__ import annotations

from collections.abc import Mapping

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from carousel_server.runtime import placement
from carousel_server.runtime.device import Device

#: What ONNX Runtime raises; its exceptions have no base class of their own.
RUNTIME_ERRORS = (
    RuntimeError,
    ValueError,
    MemoryError,
    ort_state.EngineError,
    ort_state.EPFail,
    ort_state.Fail,
    ort_state.InvalidArgument,
    ort_state.InvalidGraph,
    ort_state.InvalidProtobuf,
    ort_state.NotImplemented,
    ort_state.RuntimeException,
)

# ONNX Runtime reports what it raises on standard error too; the server has its own log.
_SEVERITY_FATAL = 4


def create_session(
    model: bytes,
    device: Device,
    *,
    threads: int,
    provider_options: Mapping[str, str] | None = None,
    record: bool = False,
) -> ort.InferenceSession:
    """Return a session for a serialized model, with `threads` threads inside a node.

    `provider_options` are the wanted provider's; with `record` the session remembers where it has
    put each node (`placement.py`).
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _SEVERITY_FATAL
    # Shapes change from tick to tick, so a remembered memory plan is seldom the right one.
    options.enable_mem_pattern = False
    # Idle threads would spin on the cores that the RPCs need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if record:
        options.add_session_config_entry(placement.RECORD, "1")
    providers = device.providers(provider_options)
    return ort.InferenceSession(model, options, providers=providers)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text: what follows in ONNX Runtime's is a call stack."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
