"""A file of another kind is met with what it is, and which command is for it."""

import pytest
import safetensors.torch
import torch

from carousel_exporter import filekinds
from carousel_exporter.cli import main
from carousel_exporter.filekinds import CHECKPOINT_KEY, PROGRESS_KEY, Kind

FILES = {
    "checkpoint.pt": {CHECKPOINT_KEY: 2, "state_dict": {"a": torch.ones(1)}},
    "checkpoint.pt.resume": {PROGRESS_KEY: 2, "identity": {}},
    "theirs.pth": {"weight": torch.ones(2)},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    for name, content in FILES.items():
        torch.save(content, tmp_path / name)
    torch.save(FILES["theirs.pth"], tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(FILES["theirs.pth"], tmp_path / "theirs.safetensors")
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "table.csv").write_text("date,co2\n1958,316\n")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "checkpoint.pt").read_bytes()[:-100])
    return tmp_path


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("checkpoint.pt", Kind.CHECKPOINT),
        ("checkpoint.pt.resume", Kind.PROGRESS),
        ("theirs.pth", Kind.TORCH),
        ("old.pth", Kind.TORCH),
        ("theirs.safetensors", Kind.TORCH),
        ("empty.onnx", Kind.EMPTY),
        ("table.csv", Kind.OTHER),
        ("cut.pt", Kind.OTHER),
    ],
)
def test_files_are_told_apart(folder, name, kind):
    assert filekinds.kind(folder / name) is kind


@pytest.mark.parametrize("command", ["inspect", "verify", "shrink --float16 --out {out}"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("checkpoint.pt", "is a checkpoint of `carousel-export train`, and a model file, such as "
                          "model.onnx, was expected: make one with `carousel-export convert"),
        ("checkpoint.pt.resume", "what an interrupted `carousel-export train` goes on from"),
        ("theirs.pth", "is a file of PyTorch's, and a model file"),
        ("empty.onnx", "is empty, and a model file"),
        ("table.csv", "is not an ONNX file, or not a whole one, and a model file, such as "
                      "model.onnx, was expected; it begins with 'date,co2"),
        ("cut.pt", "it begins with 'PK"),
    ],
)  # fmt: skip
def test_commands_for_model_files_say_what_came(folder, capsys, command, name, words):
    path, out = folder / name, folder / "out.onnx"
    first, *flags = command.format(out=out).split()
    assert main([first, str(path), *flags]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words.format(path=path) in error
    assert not out.exists()
