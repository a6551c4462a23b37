"""Taking over other people's recurrent ONNX files: canonical form out, proved by numbers.

`adopt` is the way in; what it is told is an `Options`, what it found an `AdoptionReport`.
"""

from carousel_exporter.adoption.adopting import adopt
from carousel_exporter.adoption.options import Context, Options, Size, StatePair
from carousel_exporter.adoption.report import AdoptionReport, Pair, Proposal, TensorAxes

__all__ = [
    "AdoptionReport",
    "Context",
    "Options",
    "Pair",
    "Proposal",
    "Size",
    "StatePair",
    "TensorAxes",
    "adopt",
]
