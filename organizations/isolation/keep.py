"""Isolation attempts: B's fetched rows read in A, and bare transactions around A's writes."""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core import serializers as django_serializers
from django.db import transaction
from django.db.models import Model
from rest_framework import serializers

from organizations import tenancy
from organizations.tenancy import NoTenant, WrongTenant, WrongTransaction

from .attempts import attempt
from .objects import FAMILY, manager, model_named, models, of, refused, works_at_home
from .outcome import Broken
from .stage import Stage


def _refused_outside_of_theirs(stage: Stage, *acts: Callable[[], object]) -> str:
    """Each act works in B, raises WrongTenant in A, and NoTenant without an organization."""
    for act in acts:
        works_at_home(stage.theirs, act)
        with tenancy.override(stage.ours.tenant), refused(WrongTenant):
            act()
        with refused(NoTenant):
            act()
    return "WrongTenant, NoTenant"


@attempt(FAMILY, "Rows fetched by a query set in B, read in A", over=models)
def fetched(stage: Stage, label: str) -> str:
    model = model_named(label)
    with tenancy.override(stage.theirs.tenant):
        every = manager(model).order_by("pk")
        # As kept on a view's class; also one without results.
        kept, values, empty = every.all(), every.values(), every.exclude(pk__isnull=False)
        for each in (kept, values, empty):
            len(each)
        steps = every.iterator()
        next(steps)
        goes_on = len(kept) > 1
    for each in (kept, values, empty):
        _refused_outside_of_theirs(
            stage,
            lambda each=each: list(each),  # type: ignore[misc]
            lambda each=each: len(each),  # type: ignore[misc]
            lambda each=each: bool(each),  # type: ignore[misc]
            lambda each=each: each[:1],  # type: ignore[misc]
            lambda each=each: each.count(),  # type: ignore[misc]
            lambda each=each: each.exists(),  # type: ignore[misc]
        )
    if goes_on:
        with tenancy.override(stage.ours.tenant), refused(WrongTenant):
            next(steps)
    return "WrongTenant, NoTenant"


@attempt(FAMILY, "An instance of B in a response of A's", over=models)
def answered(stage: Stage, label: str) -> str:
    model = model_named(label)
    instance = of(stage.theirs, model)
    serializer = _serializer_of(model)
    _refused_outside_of_theirs(stage, lambda: serializer([instance], many=True).data)
    with tenancy.override(stage.ours.tenant), refused(WrongTenant):
        django_serializers.serialize("json", [instance])
    return "WrongTenant, NoTenant"


def _serializer_of(shown: type[Model]) -> Any:
    class Keys(serializers.ModelSerializer[Any]):
        class Meta:
            model = shown
            fields = (shown._meta.pk.name,)
            read_only_fields = fields

    return Keys


@attempt(FAMILY, "A write of A's inside a bare transaction.atomic()", over=models)
def uncovered(stage: Stage, label: str) -> str:
    """The block is the master's and does not roll back: no crossing, but the same mistake."""
    if settings.ORG_BARE_ATOMIC != "refuse":
        raise Broken("ORG_BARE_ATOMIC is warn: such a write is done and not rolled back")
    instance = of(stage.ours, model_named(label))

    def write() -> None:
        with transaction.atomic():
            instance.save()

    works_at_home(stage.ours, write)
    with tenancy.override(stage.ours.tenant), refused(WrongTransaction):
        write()
    return "WrongTransaction"
