"""Programs as others write them: forward takes its state and returns it. Read as a file, too."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Recurrent(nn.Module):
    """x (T, B, 3) and h (2, B, 8) to y (T, B, 2) and h."""

    def __init__(self, kind: str = "GRU", **options: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = getattr(nn, kind)(3, 8, 2, **options)
        self.fc = nn.Linear(8, 2)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        top, h = self.rnn(x, h)
        return self.fc(top), h


class Tanh(Recurrent):
    """A plain RNN in its place."""

    def __init__(self) -> None:
        super().__init__("RNN")


class Speller(nn.Module):
    """Token ids (B, T) and (h, c), (2, B, 8) each, to scores (B, T, 30) and (h, c)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.emb = nn.Embedding(30, 5)
        self.rnn = nn.LSTM(5, 8, 2, batch_first=True)
        self.out = nn.Linear(8, 30)

    def forward(
        self, tokens: Tensor, state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        top, state = self.rnn(self.emb(tokens), state)
        return self.out(top), state


class Cell(nn.Module):
    """One step: x (B, 3) and h (B, 8) to y (B, 1) and h, with a reset gate of its own making."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell = nn.GRUCell(3, 8)
        self.fc = nn.Linear(8, 1)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = self.cell(x, h)
        return self.fc(h), h


class Fickle(nn.Module):
    """One step that traces as something else: what it does depends on the numbers that it sees."""

    def forward(self, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        s = 0.5 * s + x
        return x + s if bool(s.sum() > 0) else x - s, s


class Careful(Recurrent):
    """Traces as something else too, but only loud inputs tell."""

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x * 0.01 if bool(x.abs().max() > 20) else x, h)


class Scripted(nn.Module):
    """One step that goes another way with loud inputs; torch.jit.script keeps both ways."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a = nn.Linear(3, 8)
        self.b = nn.Linear(8, 8)
        self.fc = nn.Linear(8, 1)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        if bool(x.abs().max() > 20):
            x = x * 0.01
        h = torch.tanh(self.a(x) + self.b(h))
        return self.fc(h), h


class Absentminded(Recurrent):
    """Takes its state, and begins anew at each call all the same."""

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x, torch.zeros_like(h))


class Gappy(nn.Module):
    """One step that may leave its middle argument out, and answers its state itself."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell = nn.GRUCell(3, 8)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, h: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        h = self.cell(x if mask is None else x * mask, h)
        return h, h


class Projected(nn.Module):
    """Layers that PyTorch's older exporter doesn't know."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(3, 8, proj_size=4)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, (h, c) = self.rnn(x, (h, c))
        return y, h, c


class Both(nn.Module):
    """A bidirectional layer, which can't be streamed."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 8, bidirectional=True)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        y, h = self.rnn(x, h)
        return y, h


def recurrent() -> nn.Module:
    """A function that returns a module."""
    return Recurrent("GRU", bias=False)


def examples() -> dict[str, object]:
    """Arguments of Speller, in words."""
    return {"tokens": "int64:B,T:0..29", "state": ("2,B,8", "2,B,8")}


def tensors() -> tuple[Tensor, Tensor]:
    """Arguments of Cell, as tensors: one row alone."""
    return torch.zeros(1, 3), torch.zeros(1, 8)


def broken() -> nn.Module:
    raise RuntimeError("no weights\nand more")


number = 3
