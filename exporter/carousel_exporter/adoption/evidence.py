"""What the graph itself and its names say about which output is the successor of which input."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Final

import onnx

from carousel_exporter.adoption.graphs import producers_of

#: Operators that move elements and compute nothing.
MOVES: Final = frozenset(
    {"Identity", "Squeeze", "Unsqueeze", "Reshape", "Transpose", "Slice", "Split", "Gather", "Cast"}
    | {"Concat", "Expand", "Flatten", "Dropout"}
)
RECURRENT: Final = frozenset({"LSTM", "GRU", "RNN"})

Role = tuple[str, str]
"""A recurrent node, and which of its states."""

#: Words that only tell in from out, or before from after.
_IGNORED: Final = re.compile(
    r"^(in|out|input|output|new|next|prev|previous|past|present|initial|init|old|cur|current|last"
    r"|final|updated|ret|n|t|to|from|the)s?$"
)
_STATE_WORDS: Final = re.compile(
    r"^(state|hidden|cell|cache|mem|memory|buf|buffer|ctx|context|carry|rnn|lstm|gru|delay"
    r"|past|present|prev|previous|last|old|[hc][0nxt]?)\d*$"
)
_INPUT_WORDS: Final = re.compile(
    r"^(x|audio|mic|ref|speech|noisy|signal|wav|waveform|mel|mels|fbank|spec|spectrum|spectrogram"
    r"|mag|frames?|feat|feats|features?|tokens?|ids?|obs|data|samples?)\d*$"
)
_OUTPUT_WORDS: Final = re.compile(
    r"^(y|logits?|prob(s|ability|abilities)?|mask|pred(s|iction)?|scores?|enhanced|answer|est)\d*$"
)


@dataclass(frozen=True)
class Name:
    """A tensor's name, taken apart into the words that tell it from others."""

    words: tuple[str, ...]
    all_words: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Name:
        """Take a name apart at signs and at capitals; words for "in" and "out" don't count."""
        text = re.sub(r":\d+$", "", text)
        text = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", text).lower()
        words = [word for word in re.split(r"[^a-z0-9]+", text) if word]
        return cls(tuple(w for w in words if not _IGNORED.match(w)), tuple(words))

    @property
    def shorthand(self) -> tuple[str, ...]:
        """The words with `h0`, `hn`, `hx`, `hidden` taken as `h`, and likewise for c."""
        short = {"hidden": "h", "cell": "c"}
        return tuple(
            short.get(word, re.sub(r"^([hc])(0|n|x|t|out|in)$", r"\1", word)) for word in self.words
        )

    def matches(self, pattern: re.Pattern[str]) -> bool:
        """Tell whether one of the words is of a kind."""
        return any(pattern.match(word) for word in self.all_words)


def likeness(name: str, other: str) -> float:
    """Return how alike two names are, from 0 to 1, but for words that tell in from out."""
    a, b = Name.of(name), Name.of(other)
    if not a.words or not b.words:
        return 0.0
    if a.words == b.words:
        return 1.0
    if a.shorthand == b.shorthand:
        return 0.7
    ratio = difflib.SequenceMatcher(None, "_".join(a.words), "_".join(b.words)).ratio()
    return 0.3 * ratio if ratio >= 0.6 else 0.0


def is_state_like(name: str) -> bool:
    """Tell whether a name sounds like a state's."""
    return Name.of(name).matches(_STATE_WORDS)


def is_data_like(name: str, *, output: bool) -> bool:
    """Tell whether a name sounds like an input's (or an output's) that is no state."""
    return Name.of(name).matches(_OUTPUT_WORDS if output else _INPUT_WORDS)


def moved_from(graph: onnx.GraphProto, name: str) -> set[str]:
    """Return the values that hold elements of an input which were only moved."""
    reached = {name}
    for node in graph.node:
        if node.op_type in MOVES and any(value in reached for value in _moved(node)):
            reached.update(node.output)
    return reached


def roles_taken(graph: onnx.GraphProto, name: str) -> frozenset[Role]:
    """Return the states of recurrent nodes that an input begins, its elements only moved."""
    reached = moved_from(graph, name)
    return frozenset(
        (label_of(node, place), kind)
        for place, node in enumerate(graph.node)
        for value, kind in _initial_states(node)
        if value in reached
    )


def roles_given(graph: onnx.GraphProto, name: str) -> frozenset[Role]:
    """Return the states of recurrent nodes that an output is made of, their elements only moved."""
    producers = producers_of(graph)
    labels = {v: label_of(n, place) for place, n in enumerate(graph.node) for v in n.output if v}
    pending, seen, roles = [name], set(), set()
    while pending:
        value = pending.pop()
        node = producers.get(value)
        if node is None or value in seen:
            continue
        seen.add(value)
        given = dict(_final_states(node))
        if value in given:
            roles.add((labels[value], given[value]))
        elif node.op_type in MOVES:
            pending.extend(_moved(node))
    return frozenset(roles)


def reverse_layers(graph: onnx.GraphProto) -> list[tuple[str, onnx.NodeProto]]:
    """Return the recurrent nodes that run backwards in time, alone or besides forwards."""
    return [
        (label_of(node, place), node)
        for place, node in enumerate(graph.node)
        if node.op_type in RECURRENT
        and any(a.name == "direction" and a.s != b"forward" for a in node.attribute)
    ]


def label_of(node: onnx.NodeProto, place: int) -> str:
    """Return what a node is called; names may be empty, or the same twice."""
    return f"{node.name or node.op_type} (node {place})"


def _moved(node: onnx.NodeProto) -> list[str]:
    """Return the inputs whose elements a move passes on: not shapes, axes or indices."""
    return list(node.input) if node.op_type == "Concat" else list(node.input[:1])


def _initial_states(node: onnx.NodeProto) -> list[tuple[str, str]]:
    if node.op_type in RECURRENT:
        return list(zip(node.input[5:7], ("h", "c"), strict=False))
    if node.op_type == "Loop":
        return [(value, f"{k}") for k, value in enumerate(node.input[2:])]
    if node.op_type == "Scan":
        return [(value, f"{k}") for k, value in enumerate(node.input[: _scan_states(node)])]
    return []


def _final_states(node: onnx.NodeProto) -> list[tuple[str, str]]:
    if node.op_type in RECURRENT:
        return list(zip(node.output[1:3], ("h", "c"), strict=False))
    if node.op_type == "Loop":
        count = max(len(node.input) - 2, 0)
        return [(value, f"{k}") for k, value in enumerate(node.output[:count])]
    if node.op_type == "Scan":
        return [(value, f"{k}") for k, value in enumerate(node.output[: _scan_states(node)])]
    return []


def _scan_states(node: onnx.NodeProto) -> int:
    """Return how many of a Scan's inputs are states: all but those it scans."""
    scanned = next((a.i for a in node.attribute if a.name == "num_scan_inputs"), 0)
    return len(node.input) - int(scanned)
