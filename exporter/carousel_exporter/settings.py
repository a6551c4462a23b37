"""How to train: the settings that every task shares."""

from __future__ import annotations

from dataclasses import dataclass

from carousel_exporter.cells import CELLS, LSTM
from carousel_exporter.errors import SettingsError


@dataclass(frozen=True)
class TrainingSettings:
    """How to train. `window` is in steps, `batch` in streams or sequences, `patience` in epochs.

    `cell` is a key of CELLS; a plain RNN squashes with tanh. `dropout` acts between layers,
    `recurrent_dropout` on the hidden state on its way to the next step. `chrono` is how many steps
    the longest memory is to span at the start of training, and 0 for the usual biases.
    `label_smoothing` is the probability that a class's target gives away to all classes alike.
    """

    window: int = 64
    batch: int = 8
    layers: int = 1
    hidden: int = 64
    cell: str = LSTM.name
    dropout: float = 0.0
    epochs: int = 300
    learning_rate: float = 3e-3
    clip: float = 1.0
    patience: int = 40
    seed: int = 0
    recurrent_dropout: float = 0.0
    layer_norm: bool = False
    chrono: int = 0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        """Raise SettingsError where a value makes no sense."""
        for name in ("window", "batch", "layers", "hidden", "epochs", "patience"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.cell not in CELLS:
            raise SettingsError(f"cell must be {' or '.join(CELLS)}, not {self.cell!r}.")
        for name in ("dropout", "recurrent_dropout", "label_smoothing"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise SettingsError(f"{_said(name)} must be at least 0 and below 1, not {value:g}.")
        if self.dropout and self.layers == 1:
            raise SettingsError("dropout acts between layers, and 1 layer has no between.")
        self._check_chrono()
        if not 0 <= self.seed < 2**64:
            raise SettingsError(f"The seed must be from 0 to 2**64 - 1, not {self.seed}.")
        if not (self.learning_rate > 0 and self.clip > 0):
            raise SettingsError(
                "The learning rate and the gradient's largest norm must be above 0, not "
                f"{self.learning_rate:g} and {self.clip:g}."
            )

    def _check_chrono(self) -> None:
        if self.chrono and self.chrono < 3:
            raise SettingsError(f"chrono must be at least 3 steps, not {self.chrono}.")
        if self.chrono and CELLS[self.cell].biased_to_keep is None:
            raise SettingsError(
                f"chrono sets the biases of gates, and a layer of kind {self.cell!r} has none."
            )


def _said(name: str) -> str:
    return name.replace("_", " ")
