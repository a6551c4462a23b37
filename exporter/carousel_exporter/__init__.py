"""Trains recurrent networks and makes them into ONNX files that Carousel serves."""

__version__ = "0.1.0"
