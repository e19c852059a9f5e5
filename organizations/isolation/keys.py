"""Keys of the cache and of throttles: primary keys repeat, so `user:1` alone would be anybody's."""

import secrets
from typing import cast

from django.conf import settings
from django.core.cache import caches
from django.test import RequestFactory
from django.utils.module_loading import import_string
from rest_framework.request import Request
from rest_framework.settings import api_settings
from rest_framework.views import APIView

from accounts.models import User
from organizations import tenancy

from . import rows
from .outcome import Broken, Crossed, attempt
from .stage import Stage

FAMILY = "keys"


@attempt(FAMILY, "A's reading and deleting under B's cache key", over=lambda _: [*settings.CACHES])
def cached(stage: Stage, alias: str) -> str:
    cache, key = caches[alias], f"isolation-check-{secrets.token_hex(8)}"
    with tenancy.override(stage.theirs.tenant):
        cache.set(key, "B's", 60)
        if cache.get(key) != "B's":
            raise Broken("the cache keeps nothing")
    try:
        with tenancy.override(stage.ours.tenant):
            seen = cache.get(key)
            cache.set(key, "A's", 60)
            cache.delete(key)
        if seen is not None or cache.get(key) is not None:
            raise Crossed("B's entry was read")
        with tenancy.override(stage.theirs.tenant):
            if cache.get(key) != "B's":
                raise Crossed("B's entry was overwritten or deleted")
    finally:
        with tenancy.override(stage.theirs.tenant):
            cache.delete(key)
    return "another compartment"


@attempt(
    FAMILY,
    "One throttle's count for A's and B's person of the same number",
    over=lambda _: [
        f"{throttle.__module__}.{throttle.__name__}"
        for throttle in cast(list[type], api_settings.DEFAULT_THROTTLE_CLASSES)
    ],
)
def throttled(stage: Stage, name: str) -> str:
    throttle = import_string(name)()
    found = []
    for side in (stage.ours, stage.theirs):
        with tenancy.override(side.tenant):
            request = Request(RequestFactory().get("/"))
            request.user = User.objects.get(pk=rows.ADMIN)  # type: ignore[assignment]
            found.append(throttle.get_cache_key(request, APIView()))
    if None in found:
        raise Broken("it counts nobody's requests")
    if found[0] == found[1]:
        raise Crossed("they have one key")
    return "two keys"
