"""A model file stepped by hand with ONNX Runtime: what a session alone would answer."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import onnx
import onnxruntime as ort
from google.protobuf import json_format

from carousel import wire
from carousel.v1 import manifest_pb2


def solo_answers(made: onnx.ModelProto, x: np.ndarray, *, output: str = "y") -> np.ndarray:
    """Return the answers [T, ...] to the inputs `x` [T, ...] of one session, a step a run."""
    session, manifest = _load(made.SerializeToString())
    states = {spec.name: np.zeros((1, *spec.shape), np.float32) for spec in manifest.states}
    lead = (1, 1) if manifest.form == manifest_pb2.MODEL_FORM_SEQUENCE else (1,)
    answers = []
    for step in x:
        feeds = {"x": step.reshape(*lead, *step.shape), **states}
        if manifest.sequence_lens:
            feeds[manifest.sequence_lens] = np.ones(1, np.int32)
        names = [output, *(spec.output for spec in manifest.states)]
        value, *new = session.run(names, feeds)
        answers.append(value.reshape(value.shape[len(lead) :]))
        states = dict(zip(states, new, strict=True))
    return np.stack(answers)


@lru_cache(maxsize=8)
def _load(content: bytes) -> tuple[ort.InferenceSession, manifest_pb2.ModelManifest]:
    made = onnx.ModelProto.FromString(content)
    (text,) = [entry.value for entry in made.metadata_props if entry.key == wire.MANIFEST_KEY]
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session, json_format.Parse(text, manifest_pb2.ModelManifest())
