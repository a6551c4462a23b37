"""`helm test`: open a session, step it twice, close it. Zeros go in; the answers must be there.

Usage: session.py HOST:PORT MODEL [FOLDER]
MODEL empty: the first one; FOLDER has ca.crt, tls.crt and tls.key. It needs nothing but what is in
the server's image.
"""

import sys
from pathlib import Path

import grpc
import numpy as np

from carousel import wire
from carousel.v1 import (
    manifest_pb2,
    models_pb2,
    models_pb2_grpc,
    sessions_pb2,
    sessions_pb2_grpc,
    tensor_pb2,
)

SECONDS = 20


def main(address: str, model: str, folder: str = "") -> None:
    """Stream to a model once; an exception is what `helm test` shows."""
    with connect(address, folder) as channel:
        grpc.channel_ready_future(channel).result(timeout=SECONDS)
        described = choose(models_pb2_grpc.ModelServiceStub(channel), model)
        sessions = sessions_pb2_grpc.SessionServiceStub(channel)
        asked = sessions_pb2.OpenRequest(model=described.name, count=1)
        opened = sessions.Open(asked, timeout=SECONDS)
        try:
            for step in range(2):
                answer = sessions.Step(request(opened, described, step), timeout=SECONDS)
                check(answer, described, step)
        finally:
            sessions.Close(closing(opened), timeout=SECONDS)
    print(f"{described.name}: opened a session, stepped it twice, closed it")  # noqa: T201


def connect(address: str, folder: str) -> grpc.Channel:
    """Return a channel, with TLS where there is a folder for it."""
    if not folder:
        return grpc.insecure_channel(address)
    ca, key, certificate = (Path(folder, n).read_bytes() for n in ("ca.crt", "tls.key", "tls.crt"))
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(ca, key, certificate))


def choose(models: models_pb2_grpc.ModelServiceStub, name: str) -> models_pb2.Model:
    """Return the model of that name, or the first of all; of several versions, the default one."""
    if name:
        return models.Get(models_pb2.GetModelRequest(name=name), timeout=SECONDS).model
    found = models.List(models_pb2.ListModelsRequest(), timeout=SECONDS).models
    return next(model for model in found if model.is_default)


def request(
    opened: sessions_pb2.OpenResponse, model: models_pb2.Model, step: int
) -> sessions_pb2.StepRequest:
    """Return a message with one step of the one session."""
    return sessions_pb2.StepRequest(
        id=step + 1,
        model=opened.model,
        version=opened.version,
        server_id=opened.server_id,
        handles=opened.handles,
        first_step=np.array([step], wire.STEP_COUNT_DTYPE).tobytes(),
        inputs=[nothing(spec) for spec in model.manifest.inputs],
    )


def nothing(spec: manifest_pb2.TensorSpec) -> tensor_pb2.Tensor:
    """Return one step of an input: zeros, or what is nearest to 0 where that is not allowed."""
    least = spec.minimum if spec.HasField("minimum") else 0
    most = spec.maximum if spec.HasField("maximum") else 0
    data = np.full([1, *spec.shape], max(least, min(most, 0)), wire.NUMPY_DTYPES[spec.dtype])
    return tensor_pb2.Tensor(
        name=spec.name, dtype=spec.dtype, shape=data.shape, data=data.tobytes()
    )


def closing(opened: sessions_pb2.OpenResponse) -> sessions_pb2.CloseRequest:
    """Return a message that closes the session."""
    return sessions_pb2.CloseRequest(
        model=opened.model,
        version=opened.version,
        server_id=opened.server_id,
        handles=opened.handles,
    )


def check(answer: sessions_pb2.StepResponse, model: models_pb2.Model, step: int) -> None:
    """Exit where a step was not answered with all outputs."""
    applied = np.frombuffer(answer.applied, wire.STEP_COUNT_DTYPE).tolist()
    outputs = {tensor.name for tensor in answer.outputs}
    expected = {spec.name for spec in model.manifest.outputs}
    if applied != [step + 1] or outputs != expected:
        sys.exit(
            f"step {step}: {[step + 1]} applied and the outputs {sorted(expected)} were expected, "
            f"{applied} and {sorted(outputs)} came: {answer}"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
