"""Whole programs of PyTorch as model files: TorchScript, torch.export, Python modules.

`load` reads one, `convert_program` makes a model file of it. The program itself is the reference
that the file is proved against.
"""

from carousel_exporter.programs.converting import convert_program
from carousel_exporter.programs.examples import Example
from carousel_exporter.programs.loading import is_program, load
from carousel_exporter.programs.program import Program

__all__ = ["Example", "Program", "convert_program", "is_program", "load"]
