"""The LSTM's equations, step by step in double precision, as docs/lstm.md writes them."""

from __future__ import annotations

import numpy as np

from carousel_exporter.network import RecurrentNetwork


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def lstm_layer(x: np.ndarray, W: np.ndarray, R: np.ndarray, b: np.ndarray) -> np.ndarray:
    """One layer over one sequence: x (T, F) to h (T, H); W (4H, F), R (4H, H), b (4H,), i f g o."""
    H = R.shape[1]
    h, c = np.zeros(H), np.zeros(H)
    answers = []
    for x_t in x:
        i, f, g, o = np.split(W @ x_t + R @ h + b, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        answers.append(h)
    return np.stack(answers)


def forecast(network: RecurrentNetwork, x: np.ndarray) -> np.ndarray:
    """A whole network over one sequence in plain units: (T, F) to (T, O)."""
    w = {name: t.double().numpy() for name, t in network.state_dict().items()}
    a = network.architecture
    signal = x
    if a.targets is not None:
        signal = np.diff(x, axis=0, prepend=x[:1])
    top = (signal - w["input_mean"]) / w["input_scale"]
    for layer in range(a.layers):
        names = [f"lstm.{kind}_l{layer}" for kind in ("weight_ih", "weight_hh")]
        bias = sum(w.get(f"lstm.bias_{k}_l{layer}", np.zeros(4 * a.hidden)) for k in ("ih", "hh"))
        top = lstm_layer(top, w[names[0]], w[names[1]], bias)
    if a.outputs:
        top = top @ w["head.weight"].T + w.get("head.bias", 0.0)
    y = top * w["output_scale"] + w["output_mean"]
    return y if a.targets is None else x[:, list(a.targets)] + y
