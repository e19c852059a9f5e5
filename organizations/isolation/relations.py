"""Isolation attempts: foreign keys and many-to-many relations between A's and B's rows."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from django.db.models import Case, ForeignKey, ManyToManyField, Model, Q, When
from django.db.models import prefetch_related_objects as prefetch

from organizations import tenancy
from organizations.tenancy import WrongTenant

from . import rows
from .attempts import attempt
from .objects import FAMILY, in_theirs, manager, model_named, of, refused, works_at_home
from .sides import Side
from .stage import Stage

Relation: TypeAlias = "ForeignKey[Any, Any] | ManyToManyField[Any, Any]"


def relations(stage: Stage) -> Sequence[str]:
    return [
        f"{model._meta.label}.{each.name}"
        for model in rows.tenant_models()
        for each in relations_of(model)
    ]


def relations_of(model: type[Model]) -> list[Relation]:
    """The model's relations to others, or to itself."""
    fields = (*model._meta.concrete_fields, *model._meta.many_to_many)
    return [each for each in fields if isinstance(each, ForeignKey | ManyToManyField)]


def accessor_of(field: Relation) -> str | None:
    """The name of the reverse accessor; None for a hidden relation."""
    relation: Any = field.remote_field
    return None if relation.hidden else relation.get_accessor_name()


def relation_named(name: str) -> tuple[type[Model], Relation]:
    label, _, field = name.rpartition(".")
    model = model_named(label)
    return model, model._meta.get_field(field)  # type: ignore[return-value]


def ends(side: Side, model: type[Model], field: Relation) -> tuple[Any, Any]:
    """A row, and one that the relation leads to, or could lead to."""
    target: Any = field.related_model
    if isinstance(field, ManyToManyField):
        return of(side, model), of(side, target)
    start = of(side, model, filled=field.name)
    with tenancy.override(side.tenant):
        return start, getattr(start, field.name) or of(side, target)


@attempt(FAMILY, "A row of B set as a relation in A, or used in a query", over=relations)
def related(stage: Stage, name: str) -> str:
    model, field = relation_named(name)
    (mine, own), (_, target) = (ends(side, model, field) for side in (stage.ours, stage.theirs))
    works_at_home(stage.ours, lambda: manager(model).filter(**{field.name: own}).count())
    sets = _puts if isinstance(field, ManyToManyField) else _sets
    for act in sets(model, field, mine, own):
        works_at_home(stage.ours, act)
    with tenancy.override(stage.ours.tenant):
        for act in (*_seeks(model, field, target), *sets(model, field, mine, target)):
            with refused(WrongTenant):
                act()
    # In B it is A's own row that is in the wrong place.
    return in_theirs(stage, lambda: _relate(mine, field, target))


def _relate(instance: Any, field: Relation, target: Any) -> None:
    if isinstance(field, ManyToManyField):
        getattr(instance, field.name).set([target])
    else:
        setattr(instance, field.name, target)


def _seeks(model: type[Model], field: Relation, target: Any) -> Iterator[Callable[[], object]]:
    """Queries that contain `target`."""
    condition = Q(**{field.name: target})
    yield lambda: manager(model).filter(condition).count()
    yield lambda: manager(model).exclude(**{f"{field.name}__in": [target]}).count()
    yield lambda: list(manager(model).annotate(own=Case(When(condition, then=1))).values("own"))


def _sets(
    model: type[Model], field: Relation, mine: Any, target: Any
) -> Iterator[Callable[[], object]]:
    yield lambda: setattr(mine, field.name, target)
    yield lambda: model(**{field.name: target})
    if not field.primary_key:
        yield lambda: manager(model).filter(pk=mine.pk).update(**{field.name: target})


def _puts(
    model: type[Model], field: Relation, mine: Any, target: Any
) -> Iterator[Callable[[], object]]:
    there: Any = getattr(mine, field.name)
    if there.through._meta.auto_created:
        yield lambda: there.add(target)
        yield lambda: there.set([target])
    yield lambda: there.all().contains(target)
    yield lambda: there.remove(target)


@attempt(FAMILY, "A relation of A's followed in B, forwards and backwards", over=relations)
def followed(stage: Stage, name: str) -> str:
    model, field = relation_named(name)
    mine, parent = ends(stage.ours, model, field)
    ways = [(mine, field.name)]
    if accessor := accessor_of(field):
        ways.append((parent, accessor))
    works_at_home(stage.ours, lambda: prefetch([of(stage.ours, model)], field.name))
    acts = [act for each in ways for act in _follows(*each)]
    if accessor and field.many_to_one:
        with tenancy.override(stage.ours.tenant):
            kept = getattr(parent, accessor)
        acts += _changes(kept, {field.name: parent.pk}, of(stage.theirs, model))
    return in_theirs(stage, *acts)


def _follows(instance: Any, name: str) -> Iterator[Callable[[], object]]:
    yield lambda: _all(instance, name)
    yield lambda: prefetch([instance], name)
    yield lambda: getattr(instance, name).all().delete()
    yield lambda: getattr(instance, name).count()


def _changes(kept: Any, change: dict[str, Any], child: Any) -> Iterator[Callable[[], object]]:
    """By a manager that A has kept of its own row."""
    yield kept.count
    yield lambda: kept.all().delete()
    yield lambda: kept.update(**change)
    yield lambda: kept.add(child, bulk=False)


def _all(instance: Any, name: str) -> list[Any]:
    """The related objects: none, one or many."""
    found = getattr(instance, name)
    return list(found.all()) if hasattr(found, "all") else [found]


@attempt(FAMILY, "Related objects loaded in B, read in A", over=relations)
def kept(stage: Stage, name: str) -> str:
    model, field = relation_named(name)
    ways = [(model, field.name)]
    if accessor := accessor_of(field):
        ways.append((field.related_model, accessor))  # type: ignore[arg-type]
    for start, way in ways:
        instance = of(stage.theirs, start)
        with tenancy.override(stage.theirs.tenant):
            prefetch([instance], way)
        with tenancy.override(stage.ours.tenant), refused(WrongTenant):
            _all(instance, way)
    return "WrongTenant"
