"""What holds for all tests."""

from __future__ import annotations

import os

# PyTorch's threads wait for each other by spinning: beside servers that use the cores too, small
# networks take minutes on two threads and seconds on one. It is read when PyTorch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
