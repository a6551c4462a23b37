"""What the exporter raises: every message is one sentence fit for a command line."""

from __future__ import annotations


class ExporterError(Exception):
    """Says what was expected, what came and what to do; the base of the exporter's errors."""


class DataError(ExporterError):
    """A CSV file, or a column of it, can't be used."""


class SettingsError(ExporterError):
    """Settings don't fit together, or don't fit the data."""


class CheckpointError(ExporterError):
    """A file of weights can't be read, or isn't the network that was expected."""


class ModelFileError(ExporterError):
    """An ONNX file can't be read, or isn't in the form that Carousel serves."""


class VerificationError(ExporterError):
    """A model file's numbers are wrong."""
