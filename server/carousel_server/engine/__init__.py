"""Sessions, their order and their steps: plain Python and numpy, no gRPC and no ONNX Runtime."""
