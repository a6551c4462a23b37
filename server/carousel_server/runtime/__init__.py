"""Everything that knows ONNX and ONNX Runtime: files, graphs, devices, runs."""

import os

# ONNX Runtime's official builds (1.31 and 1.32 on Linux among them) report to their makers over the
# network, from their import on. Whoever serves their own models here has not been asked; 0 in the
# environment leaves it on.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
