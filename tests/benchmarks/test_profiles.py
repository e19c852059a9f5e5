"""What is read from py-spy's flame graphs, and what is not kept of them."""

from benchmarks.profiles import titled, widest

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


def test_samples_of_a_frame_that_lies_above_itself_count_once() -> None:
    assert widest(GRAPH) == [
        ("call (orgmgmt/edge/pages.py)", 60.0),
        ("wait (psycopg/connection.py)", 20.0),
    ]


def test_a_graph_tells_its_load_and_not_the_command() -> None:
    graph = titled(GRAPH, "login")

    assert ">login</text>" in graph
    assert "/home/somebody" not in graph
