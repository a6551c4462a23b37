"""The command line, as far as it is not the server."""

from __future__ import annotations

from carousel_server import __main__, busypoll


def test_an_interrupt_while_models_are_loaded_is_a_status(monkeypatch, tmp_path, capsys):
    def interrupted(main, **_):
        main.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(busypoll, "run", interrupted)
    monkeypatch.setattr(__main__.log, "configure", lambda _: None)  # it would outlive this test
    assert __main__.main(["--models", str(tmp_path)]) == 130
    assert "Traceback" not in capsys.readouterr().err
