"""Comparators answer the same as the product, and the harness counts correctly.

They run on a PostgreSQL of their own with a few organizations. Times are not tested.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness import contract
from benchmarks.harness.budget import Clock
from benchmarks.harness.cluster import Cluster
from benchmarks.harness.folders import temporary
from benchmarks.harness.sampler import Sampler, sessions_begun
from benchmarks.harness.web import WebServer
from benchmarks.measures import request_end, round_robin, routed
from benchmarks.measures.login import fill_bare
from benchmarks.measures.reference import create_milliseconds, hash_milliseconds, make_template
from benchmarks.names import seeded

COUNT = 12
VARIANTS = (routed.OURS[64], routed.PLAIN, routed.STARTPROJECT, routed.NAIVE[60], routed.TENANTS)

pytestmark = [pytest.mark.bench, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # Not below pytest's folder: each start of pytest closes that to PostgreSQL's user.
    settings = {"shared_buffers": "64MB", "fsync": "off", "full_page_writes": "off"}
    with temporary() as folder, Cluster(folder / "main", postgres_settings=settings) as running:
        running.spread("seed", ["--count", COUNT], processes=2)
        yield running


@pytest.fixture(scope="module")
def files(cluster: Cluster) -> dict[str, Path]:
    return routed.prepare(cluster, Clock(1000), COUNT)


def ask(server: WebServer, line: str) -> tuple[int, Any]:
    """The answer to a line of a file of requests."""
    method, path, host, authorization, body = line.split("\t")
    request = urllib.request.Request(  # noqa: S310 - our own server
        server.address + path, method=method, data=body.encode() or None
    )
    request.add_header("Authorization", authorization)
    if host:
        request.add_header("Host", host)
    if body:
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda each: each.name)
def test_every_variant_answers_each_token_with_its_own_user(
    variant: routed.Variant, cluster: Cluster, files: dict[str, Path]
) -> None:
    lines = files[variant.requests].read_text().splitlines()
    assert len(lines) == COUNT
    server = WebServer(
        cluster, "variant", settings=variant.settings, environment=variant.environment
    )
    with server:
        for line, name in zip(lines[:3], seeded(COUNT), strict=False):
            status, answer = ask(server, line)
            assert (status, answer["email"]) == (200, contract.email_of(name))
            assert set(answer) == {
                *("id", "email", "is_admin", "is_active", "created_at", "email_verified_at")
            }
        forged = lines[0].replace("Bearer ", "Bearer x")
        assert ask(server, forged)[0] == 401
        assert ask(server, lines[0].replace(lines[0].split("\t")[3], ""))[0] == 401


def test_the_bare_view_answers_a_lookup_as_ours_does(cluster: Cluster) -> None:
    names = seeded(3)
    fill_bare(cluster, names)
    body = json.dumps({"organization_name": names[2]})
    line = "\t".join(("POST", "/org/get", "", "", body))
    bare = WebServer(cluster, "bare", settings="benchmarks.comparators.bare.settings")
    with WebServer(cluster, "ours") as ours, bare:
        (status, answer), (bare_status, bare_answer) = ask(ours, line), ask(bare, line)

    assert (status, bare_status) == (200, 200)
    assert set(answer) == set(bare_answer)
    assert answer["admin_email"] == bare_answer["admin_email"] == contract.email_of(names[2])


def test_connections_are_counted_by_server_and_process(
    cluster: Cluster, files: dict[str, Path]
) -> None:
    naive = routed.NAIVE[60]
    lines = files["product"].read_text().splitlines()
    server = WebServer(cluster, "hoard", settings=naive.settings, environment=naive.environment)
    with server, cluster.superuser() as connection:
        begun = sessions_begun(connection)
        for line in lines:
            assert ask(server, line)[0] == 200
        with Sampler(cluster) as sampler:
            pass
        assert sampler.most_of_a_process("hoard") >= COUNT / 2, "each organization's stays open"
        assert sampler.held("hoard") > COUNT, "the master's too"
        assert sampler.held("hoar") == 0
        assert sessions_begun(connection) - begun >= COUNT
        assert all(each > 10 * 2**20 for each in server.worker_rss_bytes())
        assert len(server.worker_rss_bytes()) == 2


def test_a_process_serves_all_organizations_and_is_measured_on_the_way(
    cluster: Cluster, files: dict[str, Path]
) -> None:
    rows = round_robin.measure(
        cluster,
        Clock(1000),
        files["product"],
        organizations=COUNT,
        environment=routed.OURS[64].environment,
    )
    by_key = {row.key: row for row in rows}

    assert [key for key in by_key if key.rpartition("/")[2].isdigit()] == [
        f"round robin/{number}" for number in range(1, COUNT + 1)
    ]
    most = by_key["round robin/connections"]
    assert most.median <= float(most.facts["ceiling"] or 0)
    assert by_key[f"round robin/{COUNT}"].median > 20


def test_the_growth_of_memory_is_counted_from_the_second_look_on() -> None:
    looks = [round_robin.Look(count, rss, 3) for count, rss in ((250, 50), (500, 100), (750, 104))]

    assert round(round_robin.growth(looks), 3) == 0.04


def test_a_requests_end_walks_every_alias_of_the_naive_way(cluster: Cluster) -> None:
    rows = request_end.measure(cluster, Clock(1000), counts=(1, 300))
    took = {row.key: row.median for row in rows}

    assert took["request end/naive/300"] > 5 * took["request end/naive/1"]
    with cluster.superuser(str(cluster.postgres.connection_parameters()["dbname"])) as connection:
        left = connection.execute("SELECT count(*) FROM organizations").fetchone()
    assert left == (COUNT,), "its rows are removed again"


def test_the_references_copy_a_database_and_drop_it(cluster: Cluster) -> None:
    with cluster.superuser() as connection:
        row = connection.execute(
            r"SELECT min(datname) FROM pg_database WHERE datname LIKE 'org\_%'"
        ).fetchone()
        assert row is not None
        make_template(cluster, row[0])
        assert len(create_milliseconds(cluster, 2)) == 2
        copies = connection.execute(
            r"SELECT count(*) FROM pg_database WHERE datname LIKE 'bench\_copy%'"
        ).fetchone()
    assert copies == (0,)
    assert all(taken > 1 for taken in hash_milliseconds(2))


def test_a_comparators_database_that_is_there_already_is_left_alone(cluster: Cluster) -> None:
    for _ in range(2):
        cluster.create_database("bench_twice")


def test_what_is_seeded_already_is_left_alone(cluster: Cluster) -> None:
    cluster.spread("seed", ["--count", COUNT], processes=2)
    told = cluster.task("breakdown", "load-one")
    assert told[0]["steps_ms"] and told[0]["total_ms"] > 0
    cluster.spread("drop", ["load-"], processes=2)
    assert cluster.manage("list_orgs").count("bench-") >= COUNT
    assert "load-one" not in cluster.manage("list_orgs")
