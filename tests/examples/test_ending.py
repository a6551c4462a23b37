"""How an example ends, whatever happens."""

import pytest
from rich.console import Console

import carousel_client as carousel
from carousel_exporter.errors import SettingsError
from examples.common.display import Display
from examples.common.ending import run_to_end
from examples.common.errors import DemoError


@pytest.mark.parametrize(
    ("outcome", "status", "told"),
    [
        (None, 0, ""),
        (DemoError("No server."), 1, "The example failed: No server."),
        (SettingsError("No such flag."), 1, "The example failed: No such flag."),
        (carousel.ModelNotFound("No such model."), 1, "No such model."),
        (PermissionError(13, "Permission denied"), 1, "Permission denied"),
        (KeyboardInterrupt(), 130, "Interrupted"),
    ],
)
def test_the_exit_status_tells_how_it_ended(capsys, outcome, status, told):
    def run():
        if outcome is not None:
            raise outcome

    assert run_to_end(Display(Console()), run) == status
    assert told in capsys.readouterr().out


def test_a_mistake_of_ours_is_not_hidden():
    def run():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_to_end(Display(Console()), run)
