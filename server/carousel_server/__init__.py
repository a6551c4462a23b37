"""Stateful gRPC server for recurrent ONNX models."""

__version__ = "0.1.0"
