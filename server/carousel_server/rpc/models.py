"""ModelService: which models can be streamed to."""

from __future__ import annotations

from typing import Any

from carousel.v1 import models_pb2, models_pb2_grpc
from carousel_server.catalog import Catalog, Served

Context = Any  # grpc.aio.ServicerContext


class ModelService(models_pb2_grpc.ModelServiceServicer):
    """Tells which models there are."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def List(
        self, request: models_pb2.ListModelsRequest, context: Context
    ) -> models_pb2.ListModelsResponse:
        """Return every version of every model."""
        return models_pb2.ListModelsResponse(models=map(self._message, self._catalog.all()))

    async def Get(
        self, request: models_pb2.GetModelRequest, context: Context
    ) -> models_pb2.GetModelResponse:
        """Return one version of one model."""
        model = self._catalog.find(request.name, request.version)
        return models_pb2.GetModelResponse(model=self._message(model))

    def _message(self, model: Served) -> models_pb2.Model:
        return models_pb2.Model(
            name=model.name,
            version=model.version,
            manifest=model.manifest,
            sha256=model.sha256,
            state_bytes=model.spec.state_bytes,
            is_default=self._catalog.is_default(model),
        )
