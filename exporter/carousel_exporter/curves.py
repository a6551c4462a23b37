"""A run's losses as they come, for TensorBoard; its package is an extra of this one."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from carousel_exporter.errors import SettingsError
from carousel_exporter.training import Epoch


class Log:
    """Writes each epoch's losses and learning rate to a folder, or nowhere where that is None.

    `after` is the epoch that a resumed run goes on from: what an earlier run wrote of later ones
    is hidden. Raises SettingsError where TensorBoard is not installed.
    """

    def __init__(self, folder: Path | None, *, after: int = 0) -> None:
        self._writer: Any = None
        if folder is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - an extra
        except ImportError:
            raise SettingsError(
                "--tensorboard needs TensorBoard, which is not installed: "
                "pip install 'carousel-exporter[tensorboard]'."
            ) from None
        purge = after + 1 if after else None
        self._writer = SummaryWriter(str(folder), purge_step=purge)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, epoch: Epoch) -> None:
        """Write an epoch's figures."""
        if self._writer is None:
            return
        figures = {
            "loss/training": epoch.train_loss,
            "loss/validation": epoch.validation_loss,
            "learning rate": epoch.learning_rate,
        }
        for name, value in figures.items():
            self._writer.add_scalar(name, value, epoch.number)
        self._writer.flush()
