"""Tests of `make profiles`: reads py-spy's flame graphs, and removes this machine's paths."""

import pytest

from benchmarks.profiles import titled, widest

pytestmark = pytest.mark.pure

FRAME = '<g><title>{} ({} samples, 1%)</title><rect y="1" fg:x="{}" fg:w="{}"/></g>'
GRAPH = '<text id="title" y="24.00">/home/somebody/py-spy record</text>' + "".join(
    FRAME.format(name, width, begin, width)
    for name, begin, width in (
        ("run (threading.py:1)", 0, 100),
        ("call (orgmgmt/edge/pages.py:40)", 0, 60),
        ("call (orgmgmt/edge/pages.py:41)", 10, 40),
        ("wait (psycopg/connection.py:5)", 70, 10),
        ("wait (psycopg/connection.py:5)", 90, 10),
    )
)


def test_a_graph_is_summed_by_frame_and_shown_without_the_command() -> None:
    # Samples of a frame that lies above itself count once.
    assert widest(GRAPH) == [
        ("call (orgmgmt/edge/pages.py)", 60.0),
        ("wait (psycopg/connection.py)", 20.0),
    ]
    graph = titled(GRAPH, "login")
    assert ">login</text>" in graph
    assert "/home/somebody" not in graph
