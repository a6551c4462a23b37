"""Smaller and faster model files, proved: half precision and 8-bit integers."""

from carousel_exporter.precision.report import Bound, Precision, ShrinkReport
from carousel_exporter.precision.shrinking import Request, shrink

__all__ = ["Bound", "Precision", "Request", "ShrinkReport", "shrink"]
