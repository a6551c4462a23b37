"""Which version of a model a request means."""

from __future__ import annotations

from dataclasses import replace

import pytest

from carousel.v1 import manifest_pb2
from carousel_server.catalog import Catalog, Served, first_handle
from carousel_server.engine import controls
from carousel_server.errors import ModelNotFound
from tests.support.bench import Bench, handles


def served(version: str, number: int, *, name: str = "m", **more) -> Served:
    bench = Bench(number=number)
    return Served(
        **{
            "name": name,
            "version": version,
            "number": number,
            "sha256": "",
            "manifest": manifest_pb2.ModelManifest(),
            "spec": bench.runner.spec,
            "engine": bench.engine,
            "driver": None,
            "keeper": None,
            "retired": False,
        }
        | more
    )


def opened(model: Served, *ids: str) -> list[int]:
    """Open sessions; return their handles."""
    given = model.engine.sessions
    return controls.Open(list(ids), {}).run(given).handles.tolist()


def test_new_sessions_get_the_newest_version_in_whatever_order_they_came():
    catalog = Catalog([served("10", 0), served("9", 1)])
    assert catalog.find("m").version == "10"
    catalog.put(served("9.5", 2))
    assert [model.version for model in catalog.versions("m")] == ["10", "9.5", "9"]
    catalog.put(served("11", 3))
    assert catalog.find_open("m").version == "11"
    assert catalog.is_default(catalog.find("m", "11"))
    assert not catalog.is_default(catalog.find("m", "10"))


def test_a_retired_version_takes_no_new_sessions():
    catalog = Catalog([served("1", 0), served("2", 1)])
    catalog.put(replace(catalog.find("m", "2"), retired=True))
    assert catalog.find_open("m").version == "1"
    assert catalog.find("m", "2").retired
    with pytest.raises(ModelNotFound, match="no model 'm/2' here; there are: m/1"):
        catalog.find_open("m", "2")
    assert not catalog.is_default(catalog.find("m", "2"))


def test_a_model_that_is_retired_altogether_is_not_offered():
    catalog = Catalog([served("1", 0, retired=True), served("1", 1, name="other")])
    assert catalog.find("m").version == "1"
    with pytest.raises(ModelNotFound, match="no model 'm' here; there are: other"):
        catalog.find_open("m")


def test_what_was_removed_is_not_found():
    catalog = Catalog([served("1", 0), served("2", 1)])
    catalog.remove(catalog.find("m", "1"))
    assert catalog.by_number(0) is None
    with pytest.raises(ModelNotFound, match="no model 'm/1' here; there are: m/2"):
        catalog.find("m", "1")
    catalog.remove(catalog.find("m"))
    with pytest.raises(ModelNotFound, match="there are: none"):
        catalog.find("m")


def test_who_reads_while_it_changes_reads_on_what_was_there():
    catalog = Catalog([served("1", 0), served("2", 1)])
    seen = []
    for model in catalog.all():
        catalog.remove(model)
        seen.append(model.version)
    assert seen == ["2", "1"]


def test_a_handle_leads_to_the_version_that_gave_it():
    one, two = served("1", 0), served("2", 1)
    catalog = Catalog([one, two])
    (old,), (new,) = opened(one, "a"), opened(two, "a")
    assert old != new
    for version in ("", "1", "2", "3"):
        assert catalog.find_running("m", version, old).number == 0
        assert catalog.find_running("m", version, new).number == 1
    assert catalog.find_running("m", "1", 77).number == 0, "who is named can say why it is none"
    with pytest.raises(ModelNotFound):
        catalog.find_running("m", "3", 77)
    with pytest.raises(ModelNotFound):
        catalog.find_running("n", "", old)


def test_a_version_that_took_over_is_found_by_the_name_of_the_other():
    catalog = Catalog([served("2", 0, former=frozenset({"1"}))])
    assert catalog.find_running("m", "1").version == "2"
    with pytest.raises(ModelNotFound):
        catalog.find("m", "1")
    catalog.put(served("1", 1))
    assert catalog.find_running("m", "1").number == 1


def test_the_first_handle_of_a_message():
    assert first_handle(handles(5, 6).tobytes()) == 5
    assert first_handle(b"") == 0
