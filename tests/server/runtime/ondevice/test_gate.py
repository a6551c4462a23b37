"""Runs go in together, a capture alone."""

from __future__ import annotations

import threading

from carousel_server.runtime.ondevice.gate import Gate


def test_runs_are_inside_together():
    gate, both = Gate(), threading.Barrier(2, timeout=10)

    def run():
        with gate.shared():
            both.wait()

    other = threading.Thread(target=run)
    other.start()
    run()
    other.join(10)
    assert not other.is_alive()


def test_a_capture_waits_for_runs_and_holds_others_up():
    gate, inside, order = Gate(), threading.Event(), []
    leave, captured = threading.Event(), threading.Event()

    def run():
        with gate.shared():
            inside.set()
            leave.wait(10)
            order.append("run")

    def capture():
        with gate.alone():
            order.append("capture")
            captured.set()

    threads = [threading.Thread(target=run), threading.Thread(target=capture)]
    threads[0].start()
    assert inside.wait(10)
    threads[1].start()
    assert not captured.wait(0.05), "somebody is inside"
    late = threading.Thread(target=lambda: go_in(gate, order))
    late.start()
    late.join(0.05)
    assert late.is_alive(), "nobody overtakes a capture that waits: runs would go on for ever"
    leave.set()
    assert captured.wait(10)
    for thread in [*threads, late]:
        thread.join(10)
    assert order == ["run", "capture", "later run"]


def go_in(gate, order):
    with gate.shared():
        order.append("later run")


def test_the_gate_opens_after_an_error():
    gate = Gate()
    for way in (gate.shared, gate.alone):
        try:
            with way():
                raise ValueError
        except ValueError:
            pass
    with gate.alone():
        pass
    with gate.shared():
        pass
