"""Everything that knows ONNX and ONNX Runtime: files, graphs, devices, runs."""
