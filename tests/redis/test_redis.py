"""Counters in Redis (CACHE_URL) behave like those in the master database."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches
from django.test import override_settings

from organizations.tenancy import counters
from tests.accounts.helpers import at_once
from tests.http.server import assert_one_shape, serving

from .conftest import PASSWORD, RedisServer

pytestmark = pytest.mark.redis

KEY = "a key of this test"
SLOW = {"free": 2, "longest": 900, "memory": 3600}


@pytest.fixture
def counted(redis_server: RedisServer) -> Iterator[Any]:
    configured = {
        "BACKEND": "organizations.throttling.redis.RedisCounters",
        "LOCATION": redis_server.url,
        "KEY_FUNCTION": "organizations.tenancy.counters.hashed_key",
    }
    default = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    with override_settings(CACHES={"default": default, "throttles": configured}):
        caches["throttles"].clear()
        yield counters.get()
        caches["throttles"].clear()


def end_the_delay(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        for key in client.scan_iter():
            client.hset(key, "until", "0")


def test_twenty_threads_never_get_one_number_twice(counted: Any) -> None:
    numbers = at_once(*[lambda: counted.hit(KEY, seconds=60).number] * 20)
    assert sorted(numbers) == list(range(1, 21))


def test_a_window_has_an_end_from_its_first_hit_on(counted: Any, redis_server: RedisServer) -> None:
    assert 50 < counted.hit(KEY, seconds=60).seconds_left <= 60
    with redis_server.client() as client:
        (key,) = client.keys()
        assert 50 < client.ttl(key) <= 60
        assert KEY not in key
        client.pexpire(key, 1)
        while client.exists(key):
            pass
    assert counted.hit(KEY, seconds=60).number == 1


def test_the_delay_doubles_after_each_failure_beyond_the_free_ones(
    counted: Any, redis_server: RedisServer
) -> None:
    for failures in range(1, 16):
        reserved = counted.reserve(KEY, **SLOW)
        expected = counters.delay_seconds(failures, free=2, longest=900)
        assert reserved == (True, failures, 1, expected)
        if expected > 60:
            refused = counted.reserve(KEY, **SLOW)
            assert not refused.granted
            assert expected - 60 < refused.seconds_left <= expected
        counted.settle(KEY)
        end_the_delay(redis_server)


def test_of_twenty_at_once_one_is_granted_where_each_starts_a_delay(
    counted: Any, redis_server: RedisServer
) -> None:
    for _ in range(15):
        counted.reserve(KEY, **SLOW)
        counted.settle(KEY)
        end_the_delay(redis_server)
    granted = at_once(*[lambda: counted.reserve(KEY, **SLOW).granted] * 20)
    assert granted.count(True) == 1


def test_attempts_are_settled_released_and_forgotten(counted: Any) -> None:
    free = {**SLOW, "free": 50}
    for _ in range(3):
        counted.reserve(KEY, **free)
    counted.settle(KEY)
    counted.release(KEY)
    assert counted.reserve(KEY, **free)[:3] == (True, 3, 2)
    counted.forget(KEY)
    for settle in (counted.settle, counted.release):
        settle(KEY)
        assert counted.reserve(KEY, **free)[:3] == (True, 1, 1)
        counted.forget(KEY)
    assert counted.prune() == 0


def test_two_processes_share_a_limit_and_without_redis_requests_get_503(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    body = {"organization_name": "Nobody Ltd"}
    settings = {"THROTTLES": "on", "THROTTLE_LOOKUP": "10/hour", "CACHE_URL": redis_server.url}
    with serving(tmp_path / "log", **settings) as server:
        server.secrets.add(PASSWORD)
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda _: server.post("/org/get", body).status_code, range(40)))
        assert (answers.count(404), answers.count(429)) == (10, 30)
        redis_server.stop()
        try:
            response = server.post("/org/get", body)
            assert assert_one_shape(response, 503)["code"] == "cache_unavailable"
        finally:
            redis_server.start()
        assert server.post("/org/get", body).status_code == 404, "it counts anew"
