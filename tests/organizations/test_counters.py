"""Counters in the master database. tests/redis tests those in Redis."""

from datetime import timedelta

import pytest
from django.core.cache import caches
from django.core.management import call_command
from django.db.models import F
from pytest_django import Settings

from organizations.models import ThrottleCounter
from organizations.tenancy import counters
from organizations.throttling.master import MasterCounters
from tests.accounts.helpers import at_once

KEY = "a key of this test"
SLOW = {"free": 2, "longest": 900, "memory": 3600}


@pytest.fixture
def counted(throttles: Settings) -> MasterCounters:
    found = caches["throttles"]
    assert isinstance(found, MasterCounters)
    return found


def pass_time(seconds: int) -> None:
    ThrottleCounter.objects.update(expires_at=F("expires_at") - timedelta(seconds=seconds))


def test_hits_are_numbered_until_their_window_ends(counted: MasterCounters) -> None:
    assert [counted.hit(KEY, seconds=60).number for _ in range(3)] == [1, 2, 3]
    assert counted.hit("another", seconds=60).number == 1
    assert 50 < counted.hit(KEY, seconds=60).seconds_left <= 60
    pass_time(30)
    assert counted.hit(KEY, seconds=60).seconds_left <= 30, "a hit has lengthened its window"
    pass_time(31)
    assert counted.hit(KEY, seconds=60).number == 1


def test_twenty_threads_never_get_one_number_twice(counted: MasterCounters) -> None:
    for _ in ("a new window", "one that has ended"):
        numbers = at_once(*[lambda: counted.hit(KEY, seconds=60).number] * 20)
        assert sorted(numbers) == list(range(1, 21))
        pass_time(61)


def test_the_delay_doubles_after_each_failure_beyond_the_free_ones(
    counted: MasterCounters,
) -> None:
    seconds = {1: 0, 2: 0, 3: 1, 4: 2, 5: 4, 12: 512, 13: 900}
    for failures in range(1, 14):
        granted = counted.reserve(KEY, **SLOW)
        assert (granted.granted, granted.failures, granted.pending) == (True, failures, 1)
        counted.settle(KEY)
        pass_time(900)
        if (longest := seconds.get(failures)) is not None:
            assert longest - 0.5 < granted.seconds_left <= longest, failures
            assert counters.delay_seconds(failures, free=2, longest=900) == longest


def test_without_a_free_failure_the_first_is_followed_by_a_delay(counted: MasterCounters) -> None:
    assert counted.reserve(KEY, free=0, longest=900, memory=3600).granted
    refused = counted.reserve(KEY, free=0, longest=900, memory=3600)
    assert not refused.granted
    assert 0 < refused.seconds_left <= 1


def test_running_attempts_are_counted_apart_from_failed_ones(counted: MasterCounters) -> None:
    for _ in range(3):
        counted.reserve(KEY, **SLOW)
    assert counted.reserve(KEY, **SLOW)[:3] == (False, 3, 3)
    counted.settle(KEY)
    assert counted.reserve(KEY, **SLOW)[:3] == (False, 3, 2)
    counted.release(KEY)
    assert counted.reserve(KEY, **SLOW)[:3] == (False, 2, 1)
    counted.forget(KEY)
    assert counted.reserve(KEY, **SLOW)[:3] == (True, 1, 1)


def test_settling_what_was_forgotten_changes_nothing(counted: MasterCounters) -> None:
    for settle in (counted.settle, counted.release):
        settle(KEY)
        assert not ThrottleCounter.objects.exists()
        counted.reserve(KEY, **SLOW)
        counted.settle(KEY)
        settle(KEY)
        assert counted.reserve(KEY, **SLOW).failures == 2
        counted.forget(KEY)


def prune(counted: MasterCounters) -> None:
    counted.prune()


def reconcile(counted: MasterCounters) -> None:
    call_command("reconcile_orgs", verbosity=0)


def count_on(counted: MasterCounters) -> None:
    for _ in range(3000):
        counted.hit("busy", seconds=60)
        if ThrottleCounter.objects.count() < 3:
            break


def test_expired_counters_are_pruned_and_the_rest_stays(counted: MasterCounters) -> None:
    for act in (prune, reconcile, count_on):
        ThrottleCounter.objects.all().delete()
        counted.hit("old", seconds=10)
        counted.hit("young", seconds=100_000)
        counted.hit("busy", seconds=100_000)
        pass_time(60)
        act(counted)
        assert ThrottleCounter.objects.count() == 2, act
        assert counted.hit("young", seconds=100_000).number == 2


def test_a_key_is_stored_as_a_keyed_hash(counted: MasterCounters, settings: Settings) -> None:
    counted.hit(KEY, seconds=60)
    (first,) = ThrottleCounter.objects.values_list("key", flat=True)
    settings.SECRET_KEY = "another secret of this test"
    counted.hit(KEY, seconds=60)
    assert ThrottleCounter.objects.count() == 2
    assert len(first) == 64
    assert KEY not in first
