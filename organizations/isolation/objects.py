"""Isolation attempts: instances loaded in A and used in B, for every tenant model."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import connections
from django.db.models import F, Model
from django.forms.models import model_to_dict

from organizations import tenancy
from organizations.tenancy import NoTenant, TenancyError, WrongTenant

from . import rows
from .attempts import attempt
from .outcome import Broken, Crossed
from .sides import Side
from .stage import Stage

FAMILY = "objects"


def models(stage: Stage) -> Sequence[str]:
    return [model._meta.label for model in rows.tenant_models()]


def manager(model: type[Model]) -> Any:
    return model._default_manager


def model_named(label: str) -> type[Model]:
    """The model. Raises Broken if it has no entry in ROWS."""
    (model,) = (each for each in rows.tenant_models() if each._meta.label == label)
    if rows.uncovered_models([model]):
        raise Broken(
            "not tried: add it to ROWS in organizations/isolation/rows.py, or in the module "
            "`isolation` of its app"
        )
    return model


def of(side: Side, model: type[Model], *, filled: str | None = None) -> Any:
    """The model's first row on this side, preferably one with this field filled."""
    with tenancy.override(side.tenant):
        found = manager(model).order_by("pk")
        if filled is not None:
            found = found.order_by(F(filled).asc(nulls_last=True), "pk")
        found = found.first()
    if found is None:
        raise Broken("there is no row to test with")
    return found


class _Undo(Exception):
    """Raised to roll a transaction back."""


def works_at_home(side: Side, act: Callable[[], object]) -> None:
    """The positive control: the same act works inside its own organization."""
    with tenancy.override(side.tenant):
        try:
            with tenancy.atomic():
                act()
                raise _Undo
        except _Undo:
            return
        except Exception as error:
            raise Broken(f"it fails inside A too: {type(error).__name__}") from error


@contextmanager
def refused(*errors: type[TenancyError]) -> Iterator[None]:
    """Raises Crossed unless the block raises one of `errors`."""
    try:
        yield
    except errors:
        return
    raise Crossed("nothing was raised")


def in_theirs(stage: Stage, *acts: Callable[[], object]) -> str:
    """Each act must raise WrongTenant while B is active."""
    with tenancy.override(stage.theirs.tenant):
        for act in acts:
            with refused(WrongTenant):
                act()
    return "WrongTenant"


@attempt(FAMILY, "An instance of A saved in B", over=models)
def saved(stage: Stage, label: str) -> str:
    instance = of(stage.ours, model_named(label))
    works_at_home(stage.ours, instance.save)
    return in_theirs(stage, instance.save)


@attempt(FAMILY, "An instance of A deleted or refreshed in B", over=models)
def deleted(stage: Stage, label: str) -> str:
    model = model_named(label)
    instance = of(stage.ours, model)
    works_at_home(stage.ours, instance.refresh_from_db)
    works_at_home(stage.ours, of(stage.ours, model).delete)
    return in_theirs(stage, instance.refresh_from_db, instance.delete)


@attempt(FAMILY, "Instances of A written in bulk in B", over=models)
def in_bulk(stage: Stage, label: str) -> str:
    model = model_named(label)
    instance = of(stage.ours, model)
    if model._meta.all_parents:
        return "Django writes no model with a parent in bulk"
    fields = [
        each.name
        for each in model._meta.concrete_fields
        if not each.primary_key and not each.generated
    ]

    def update() -> None:
        manager(model).bulk_update([instance], fields)

    def create() -> None:
        manager(model).bulk_create(
            [instance],
            update_conflicts=True,
            unique_fields=[model._meta.pk.attname],
            update_fields=fields,
        )

    acts = [update, create] if fields else []
    for act in acts:
        works_at_home(stage.ours, act)
    return in_theirs(stage, *acts, lambda: manager(model).bulk_create([instance]))


@attempt(FAMILY, "An instance of A used in B's queries and forms", over=models)
def given(stage: Stage, label: str) -> str:
    """Code that does not ask the router uses the key, and B has a row with the same one."""
    model, alias = model_named(label), stage.theirs.tenant.alias
    instance = of(stage.ours, model)
    works_at_home(stage.ours, lambda: manager(model).all().contains(instance))
    works_at_home(stage.ours, instance.validate_unique)
    with tenancy.override(stage.theirs.tenant):
        if instance in manager(model).all():
            raise Crossed("it was taken for B's row with the same key")
    return in_theirs(
        stage,
        lambda: manager(model).all().contains(instance),
        lambda: instance.save(using=alias),
        lambda: instance.delete(using=alias),
        lambda: instance.refresh_from_db(using=alias),
        lambda: instance.refresh_from_db(from_queryset=manager(model).all()),
        instance.validate_unique,
        lambda: model_to_dict(instance),
    )


@attempt(FAMILY, "A query in B that names A's alias: using=", over=models)
def using(stage: Stage, label: str) -> str:
    model = model_named(label)
    instance, alias = of(stage.ours, model), stage.ours.tenant.alias
    works_at_home(stage.ours, manager(model).using(alias).count)
    # A's alias stays registered while A is active outside.
    with tenancy.override(stage.ours.tenant):
        return in_theirs(
            stage,
            manager(model).using(alias).count,
            lambda: list(manager(model).using(alias).iterator()),
            lambda: instance.save(using=alias),
        )


@attempt(FAMILY, "A query in A that names B's alias: using=", over=models)
def using_theirs(stage: Stage, label: str) -> str:
    model = model_named(label)
    alias = stage.theirs.tenant.alias
    works_at_home(stage.theirs, manager(model).using(alias).count)
    with tenancy.override(stage.theirs.tenant), tenancy.override(stage.ours.tenant):
        with refused(WrongTenant):
            manager(model).using(alias).count()
        with refused(WrongTenant):
            list(manager(model).using(alias).iterator())
    return "WrongTenant"


@attempt(FAMILY, "A query set made in B and read in A")
def lazy(stage: Stage, subject: str) -> str:
    for model in rows.tenant_models():
        with tenancy.override(stage.theirs.tenant):
            kept = manager(model).all()
        with tenancy.override(stage.ours.tenant):
            if any(each._state.db != stage.ours.tenant.alias for each in kept):
                raise Crossed(f"{model._meta.label}: rows of B's")
    return "A's own rows"


@attempt(FAMILY, "A query while no organization is active", over=models)
def nobody(stage: Stage, label: str) -> str:
    model = model_named(label)
    instance = of(stage.ours, model)
    for act in (
        manager(model).count,
        manager(model).all().delete,
        instance.refresh_from_db,
        instance.save,
        instance.delete,
    ):
        with refused(NoTenant):
            act()
    return "NoTenant"


@attempt(FAMILY, "connections[B's alias] while A is active")
def raw_connection(stage: Stage, subject: str) -> str:
    alias = stage.theirs.tenant.alias
    with tenancy.override(stage.theirs.tenant):
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT 1")
        with tenancy.override(stage.ours.tenant):
            for cursor_of in (connections[alias].cursor, connections[alias].chunked_cursor):
                with refused(WrongTenant):
                    cursor_of()
    return "WrongTenant"


@attempt(FAMILY, "A thread that A starts is in no organization")
def thread(stage: Stage, subject: str) -> str:
    found: list[object] = []

    def work() -> None:
        try:
            found.append(tenancy.peek())
        finally:
            connections.close_all()

    with tenancy.override(stage.ours.tenant):
        started = threading.Thread(target=work)
        started.start()
        started.join()
    if found != [None]:
        raise Crossed("it is inside an organization that it did not enter")
    return "none is active"
