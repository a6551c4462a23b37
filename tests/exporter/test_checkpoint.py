import zipfile

import numpy as np
import pytest
import torch

from carousel_exporter import checkpoint
from carousel_exporter.checkpoint import Checkpoint
from carousel_exporter.data import Split, Statistics
from carousel_exporter.errors import CheckpointError
from carousel_exporter.filekinds import CHECKPOINT_KEY
from carousel_exporter.source import read_source

from .builders import make_network


@pytest.fixture
def made():
    return Checkpoint(
        network=make_network(layers=2, targets=(1,)),
        features=("a", "b"),
        targets=("b",),
        horizon=4,
        unit="ppm",
        levels=Statistics(np.array([1.5, 2]), np.array([0.25, 4])),
        split=Split(70, 85, 100),
        facts={"seed": 3, "data": "s.csv"},
    )


def test_what_was_saved_comes_back(made, tmp_path):
    path = tmp_path / "deep" / "c.pt"
    checkpoint.save(made, path)
    found = checkpoint.load(path)
    for field in ("features", "targets", "horizon", "unit", "split", "facts"):
        assert getattr(found, field) == getattr(made, field)
    np.testing.assert_array_equal(found.levels.mean, made.levels.mean)
    np.testing.assert_array_equal(found.levels.scale, made.levels.scale)
    assert found.network.architecture == made.network.architecture
    assert not found.network.training
    x = torch.randn(7, 2, 2)
    assert torch.equal(checkpoint.load_network(path)(x)[0], made.network(x)[0])
    assert [p.name for p in path.parent.iterdir()] == ["c.pt"]


def test_a_file_that_would_run_code_is_refused(tmp_path):
    path = tmp_path / "c.pt"
    torch.save(make_network(), path)
    with pytest.raises(CheckpointError, match="can't be read safely"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"a": torch.ones(1)}, "is not a checkpoint"),
        ([torch.ones(1)], "holds a list"),
        ({CHECKPOINT_KEY: 9}, "format 9"),
        ({CHECKPOINT_KEY: 1}, "damaged: a checkpoint has 'architecture', and this one hasn't"),
        (
            {CHECKPOINT_KEY: 1, "architecture": {"targets": None, "odd": 1}},
            "damaged: .* don't fit together",
        ),
    ],
)
def test_other_files_are_refused(tmp_path, content, words):
    path = tmp_path / "c.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=words):
        checkpoint.load(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no checkpoint", "can't be read: .* this one begins with 'no checkpoint'"),
        (b"", "is empty"),
        (b"date,co2\n2001,350.5\n", "can't be read"),
        (b"hello\n", "can't be read"),
        (b"PK\x03\x04 and no more", "can't be read: a whole file of torch.save was expected"),
        (bytes(range(128)), "can't be read"),
        (bytes(range(128, 256)), "can't be read"),
    ],
)
def test_garbage_is_refused_in_one_sentence(tmp_path, content, words):
    path = tmp_path / "c.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"c\.pt {words}") as caught:
        checkpoint.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("first", [bytes([code]) for code in range(256)])
def test_no_garbage_ends_in_anything_else(tmp_path, first):
    path = tmp_path / "c.pt"
    path.write_bytes(first + b"abc\n\x80\n.")
    with pytest.raises(CheckpointError):
        checkpoint.load(path)


def test_the_same_network_makes_the_same_file(made, tmp_path):
    for name in ("a.pt", "b.pt"):
        checkpoint.save(made, tmp_path / name)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


@pytest.mark.parametrize("kept", [0.01, 0.5, 0.99])
def test_a_file_that_breaks_off_is_said_to(made, tmp_path, kept):
    path = tmp_path / "c.pt"
    checkpoint.save(made, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CheckpointError, match=r"c\.pt can't be read: .*breaks off after [\d,]+"):
        checkpoint.load(path)


def test_one_changed_bit_of_a_weight_is_found(made, tmp_path):
    """PyTorch itself would load it."""
    path = tmp_path / "c.pt"
    checkpoint.save(made, path)
    weight = made.network.recurrent.get_parameter("weight_hh_l0").detach().numpy().tobytes()
    content = bytearray(path.read_bytes())
    content[content.index(weight)] ^= 1
    path.write_bytes(content)
    torch.load(path, weights_only=True)
    with pytest.raises(CheckpointError, match=r"damaged: its part 'archive/data/\d+' is not"):
        checkpoint.load(path)
    with pytest.raises(CheckpointError, match="damaged"):
        read_source(path)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_other_archives_are_told(tmp_path):
    path = tmp_path / "c.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("sheet.xml", "1")
    with pytest.raises(CheckpointError, match=r"this is another zip archive, of sheet\.xml"):
        checkpoint.load(path)
    torch.jit.script(torch.nn.Linear(1, 1)).save(path)
    with pytest.raises(CheckpointError, match="this one is a TorchScript program"):
        checkpoint.load(path)
