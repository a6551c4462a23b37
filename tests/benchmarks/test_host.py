"""What the server's own part can do."""

from __future__ import annotations

from rich.console import Console

from benchmarks import host
from benchmarks.host import Measured
from benchmarks.ondevice.service import Load


def test_a_network_of_one_unit_is_served_and_echoed(monkeypatch):
    monkeypatch.setattr(host, "GATEWAYS", (1, 2))
    monkeypatch.setattr(host, "SESSIONS", 64)
    measured, echo = host.measure((1, 1), seconds=0.2)
    assert [each.gateways for each in measured.loads] == [1, 2]
    assert all(each.steps_a_second > 0 for each in measured.loads)
    assert echo > 0


def test_the_table_has_a_row_for_each():
    console = Console(record=True, width=100)
    loads = [Load(1, 2048, 500.0, 0.5, 0.0), Load(2, 2048, 800.0, 0.9, 0.0)]
    host.print_measured(console, [Measured(1, 1, loads)], 1000.0)
    text = console.export_text()
    assert "0.50" in text
    assert "0.80" in text
