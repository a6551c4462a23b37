"""The model repository: which files are models, and in which order."""

from __future__ import annotations

import pytest

from carousel_server.errors import ModelFileError
from carousel_server.runtime.repository import scan, slips


def make(folder, *names: str):
    for name in names:
        path = folder / name / "model.onnx"
        path.parent.mkdir(parents=True)
        path.touch()
    return folder


def test_versions_are_in_the_order_that_people_give_them(tmp_path):
    names = ["b/1", "a/10", "a/2", "a/1.10", "a/1.9", "a/v10", "a/v9", "a/2024-01-02", "B/1"]
    found = [f"{entry.name}/{entry.version}" for entry in scan(make(tmp_path, *names))]
    assert found == [
        "B/1", "a/v9", "a/v10", "a/1.9", "a/1.10", "a/2", "a/10", "a/2024-01-02", "b/1",
    ]  # fmt: skip


def test_what_is_no_model_is_passed_over(tmp_path):
    make(tmp_path, "a/1", ".git/1", "a/.tmp", "a/1/deeper")
    (tmp_path / "README.md").touch()
    (tmp_path / "a" / "config.pbtxt").touch()
    assert [entry.path for entry in scan(tmp_path)] == [tmp_path / "a" / "1" / "model.onnx"]


@pytest.mark.parametrize("name", ["a b/1", "ä/1", "a/1,5", "-a/1", "a/_1"])
def test_names_that_would_not_travel(tmp_path, name):
    with pytest.raises(ModelFileError, match="is no name for a model or a version") as caught:
        scan(make(tmp_path, name))
    assert str(caught.value).startswith(f"{tmp_path / name}")


def test_folders_that_are_no_repository(tmp_path):
    with pytest.raises(ModelFileError, match="it holds no NAME/VERSION/"):
        scan(tmp_path)
    with pytest.raises(ModelFileError, match="there is no such folder; --models names one"):
        scan(tmp_path / "nosuch")
    file = tmp_path / "model.onnx"
    file.touch()
    with pytest.raises(ModelFileError, match="there is no such folder"):
        scan(file)


def test_folders_that_hold_no_model_where_one_is_looked_for(tmp_path):
    make(tmp_path, "good/1", "flat", "deep/er/1")
    (tmp_path / "empty" / "1").mkdir(parents=True)
    (tmp_path / ".git" / "1").mkdir(parents=True)
    assert {str(path.relative_to(tmp_path)): why for path, why in slips(tmp_path)} == {
        "flat": "flat/VERSION/model.onnx",
        "deep/er": "model.onnx, and no slash in a model's name",
        "empty/1": "model.onnx",
    }
