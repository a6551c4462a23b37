"""The picture of how speed grows."""

from benchmarks.growth import CHUNKS, SESSIONS, Point, draw, shapes


def test_each_shape_is_measured_once_a_panel():
    assert list(shapes()) == [(n, 1) for n in SESSIONS] + [(64, t) for t in CHUNKS]


def test_a_picture_of_two_panels_is_drawn(tmp_path):
    points = [
        Point(sessions, steps, 1e3 * sessions, 2e3 * sessions, 0.5, 1.0, 100)
        for sessions, steps in shapes()
    ]
    draw(tmp_path / "growth.png", points)
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
