import pytest

from carousel_exporter.errors import ExporterError
from carousel_exporter.files import check_writable, replacing


def test_a_file_appears_whole_and_readable_by_others(tmp_path):
    path = tmp_path / "deep" / "f"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_half_way_leaves_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / "f"
    path.write_text("old")

    def write_half():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_can_not_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExporterError, match="can't be written"), replacing(tmp_path / "file" / "x"):
        pass


def test_a_folder_is_no_place_for_a_file(tmp_path):
    with pytest.raises(ExporterError, match="it is a folder"), replacing(tmp_path):
        pass


def test_a_failure_of_the_disk_is_a_sentence(tmp_path):
    def write():
        with replacing(tmp_path / "f"):
            raise OSError(28, "No space left on device")

    with pytest.raises(ExporterError, match=r"f can't be written: No space left on device\."):
        write()
    assert not list(tmp_path.iterdir())


def test_a_place_is_tried_without_leaving_anything(tmp_path):
    check_writable(tmp_path / "new" / "deep" / "f")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    for name, why in {"file/x": "Not a directory", "file/new/x": "Not a directory"}.items():
        with pytest.raises(ExporterError, match=f"can't be written: {why}"):
            check_writable(tmp_path / name)
