"""The GPU's edge: CUDA's runtime library, and what ONNX Runtime's CUDA provider is told."""
