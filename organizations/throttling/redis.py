"""Rate-limit counters in Redis: the cache `throttles` with CACHE_URL.

tenancy/counters.py documents the methods.
"""

from typing import Any

from django.core.cache.backends.redis import RedisCache

from organizations.tenancy.counters import Hit, Reservation

# Each script is atomic. A reservation is a hash: failures, pending, and the end of the delay.
_REDIS_RESERVE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local free, longest, memory = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local known = redis.call('HMGET', KEYS[1], 'until', 'failures', 'pending')
local left = tonumber(known[1] or 0) - now
if left > 0 then
    return {0, tonumber(known[2]), tonumber(known[3]), left}
end
local failures = redis.call('HINCRBY', KEYS[1], 'failures', 1)
local pending = redis.call('HINCRBY', KEYS[1], 'pending', 1)
local delay = 0
if failures > free then
    delay = math.min(longest, 2 ^ math.min(failures - free - 1, 30))
end
redis.call('HSET', KEYS[1], 'until', string.format('%.0f', now + delay * 1000))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', (memory + delay) * 1000))
return {1, failures, pending, delay * 1000}
"""
_REDIS_SETTLE = """
if tonumber(redis.call('HGET', KEYS[1], 'pending') or 0) > 0 then
    redis.call('HINCRBY', KEYS[1], 'pending', -1)
    redis.call('HINCRBY', KEYS[1], 'failures', ARGV[1])
end
"""


class RedisCounters(RedisCache):
    """Django's Redis cache, with counters. Redis removes expired keys by itself."""

    def hit(self, key: str, *, seconds: int) -> Hit:
        name, client = self._of(key)
        with client.pipeline(transaction=True) as steps:
            # The expiry is set with the key, so a crash leaves no endless window.
            steps.set(name, 0, ex=seconds, nx=True)
            steps.incr(name)
            steps.pttl(name)
            _, count, left_ms = steps.execute()
        return Hit(count, left_ms / 1000)

    def reserve(self, key: str, *, free: int, longest: int, memory: int) -> Reservation:
        name, client = self._of(key)
        granted, failures, pending, left_ms = client.eval(
            _REDIS_RESERVE, 1, name, free, longest, memory
        )
        return Reservation(bool(granted), failures, pending, left_ms / 1000)

    def settle(self, key: str) -> None:
        name, client = self._of(key)
        client.eval(_REDIS_SETTLE, 1, name, 0)

    def release(self, key: str) -> None:
        name, client = self._of(key)
        client.eval(_REDIS_SETTLE, 1, name, -1)

    def forget(self, key: str) -> None:
        self.delete(key)

    def prune(self) -> int:
        return 0

    def _of(self, key: str) -> tuple[str, Any]:
        name = self.make_and_validate_key(key)
        return name, self._cache.get_client(name, write=True)  # type: ignore[attr-defined]
