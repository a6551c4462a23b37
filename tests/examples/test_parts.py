"""The demo's other parts, each by itself."""

import os
import shlex
import signal
from datetime import date

import numpy as np
import pytest

from examples.co2.series import Measured
from examples.common.display import fold_command
from examples.common.errors import DemoError
from examples.common.metrics import Figures, parse_figures
from examples.common.serving import serving
from examples.common.signals import ending_on_signals
from tests.examples.processes import is_running
from tests.support.models import put, running_sum

METRICS = """\
# TYPE carousel_steps_total counter
carousel_steps_total{model="co2"} 120.0
carousel_steps_total{model="other"} 7.0
# TYPE carousel_sessions_opened_total counter
carousel_sessions_opened_total{model="co2"} 3.0
# TYPE carousel_tick_rows histogram
carousel_tick_rows_bucket{le="1.0",model="co2"} 10.0
carousel_tick_rows_bucket{le="+Inf",model="co2"} 40.0
carousel_tick_rows_count{model="co2"} 40.0
carousel_tick_rows_sum{model="co2"} 100.0
# TYPE carousel_step_seconds histogram
carousel_step_seconds_bucket{le="+Inf",model="co2",phase="total"} 20.0
carousel_step_seconds_count{model="co2",phase="total"} 20.0
carousel_step_seconds_sum{model="co2",phase="total"} 0.05
"""


@pytest.mark.parametrize("width", [30, 78, 500])
def test_a_folded_command_is_the_same_command_to_a_shell(width):
    words = ["bin/program", "train", "--data", "my file.csv", "--a", "1", "--flag", "--out", "x.pt"]
    folded = "\n".join(fold_command(words, width))
    assert shlex.split(folded.replace("\\\n", "")) == words


def test_a_folded_command_keeps_to_the_width_and_options_beside_their_values():
    words = ["program", *(word for n in range(9) for word in (f"--option{n}", f"value{n}"))]
    lines = fold_command(words, 50)
    assert max(map(len, lines)) <= 50
    assert all(line.count("--") == line.count("value") for line in lines)


def test_figures_are_those_of_the_model_and_means_are_of_sums():
    expected = Figures(sessions=3, steps=120, ticks=40, rows_a_tick=2.5, milliseconds_a_message=2.5)
    assert parse_figures(METRICS, "co2") == expected


def test_a_figure_that_is_not_there_is_named():
    with pytest.raises(DemoError, match="carousel_sessions_opened_total of model 'other'"):
        parse_figures(METRICS, "other")


def test_forecasts_stand_at_the_week_that_they_speak_of():
    values = np.arange(5.0)[:, None]
    measured = Measured([date(2000, 1, 1)] * 5, values, first=3)
    placed = measured.place(np.array([[10.0], [11.0], [12.0], [13.0], [14.0]]), ahead=2)
    np.testing.assert_array_equal(placed, [np.nan, np.nan, 10, 11, 12])
    early = measured.place(np.array([[10.0]]), ahead=2)
    np.testing.assert_array_equal(early, [np.nan, np.nan, 10, np.nan, np.nan])


def test_new_years_are_counted_from_the_first_held_out_week():
    dates = [date(1999, 12, 18), date(1999, 12, 25), date(2000, 1, 1), date(2000, 1, 8)]
    measured = Measured(dates, np.zeros((4, 1)), first=1)
    assert measured.new_years() == [(1, "2000")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_being_told_to_end_is_like_ctrl_c_and_only_within_the_block(number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), ending_on_signals():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_the_server_ends_with_its_block_also_on_ctrl_c(tmp_path):
    put(tmp_path / "models", running_sum())
    seen = []

    def interrupted():
        with serving(tmp_path / "models", log=tmp_path / "log") as server:
            seen.append((server.pid, is_running(server.pid)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    ((pid, was_running),) = seen
    assert was_running
    assert not is_running(pid)


def test_a_server_that_does_not_start_is_told_with_its_reason(tmp_path):
    with (
        pytest.raises(DemoError, match=r"did not start; .*nowhere"),
        serving(tmp_path / "nowhere", log=tmp_path / "log"),
    ):
        pass
