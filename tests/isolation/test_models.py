"""Every tenant model: what was loaded in one organization is refused in another."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db.models import ForeignKey, ManyToManyField, Model, prefetch_related_objects

from accounts.models import LoginSession, User
from organizations import tenancy
from organizations.isolation import Side, rows
from organizations.isolation.relations import accessor_of, relations_of
from organizations.tenancy import NoTenant, Tenant, WrongTenant

pytest_plugins = ["tests.isolation.fixtures"]

MODELS = rows.tenant_models()
RELATIONS: list[tuple[type[Model], Any]] = [
    (model, field) for model in MODELS for field in relations_of(model)
]
Acts = dict[str, Callable[[], object]]


def _manager(model: type[Model]) -> Any:
    return model._default_manager


def _of(side: Side, model: type[Model]) -> Any:
    """The model's first row on this side."""
    with tenancy.override(side.tenant):
        return _manager(model).order_by("pk").first()


def _keys(side: Side, model: type[Model]) -> set[Any]:
    with tenancy.override(side.tenant):
        return set(_manager(model).values_list("pk", flat=True))


def _taken(tenant: Tenant, acts: Acts) -> list[str]:
    """The acts that do not raise WrongTenant while the tenant is active."""
    taken = []
    with tenancy.override(tenant):
        for name, act in acts.items():
            try:
                act()
            except WrongTenant:
                continue
            taken.append(name)
    return taken


def test_reading_yields_the_rows_of_the_active_organization(ours: Side, theirs: Side) -> None:
    for model in MODELS:
        label = model._meta.label
        assert _keys(ours, model) == _keys(theirs, model), label
        with tenancy.override(ours.tenant):
            made_in_ours = _manager(model).all()
        for side in (ours, theirs):
            stored = {str(row[0]) for row in side.contents()[model._meta.db_table]}
            assert stored, f"{label}: add rows to ROWS in organizations/isolation/rows.py"
            with tenancy.override(side.tenant):
                found = [*_manager(model).all(), *made_in_ours.all()]
            assert {str(each.pk) for each in found} == stored, label
            assert {each._state.db for each in found} == {side.tenant.alias}, label


def test_without_an_organization_nothing_is_read_or_written(ours: Side, theirs: Side) -> None:
    for model in MODELS:
        instance = _of(ours, model)
        for action in (
            _manager(model).count,
            _manager(model).all().delete,
            instance.save,
            instance.delete,
            instance.refresh_from_db,
        ):
            with pytest.raises(NoTenant, match="none is active"):
                action()


def test_an_instance_of_ours_is_refused_by_theirs(ours: Side, theirs: Side) -> None:
    for model in MODELS:
        acts = _acts_with(_of(ours, model), model, ours)
        assert _taken(theirs.tenant, acts) == [], model._meta.label


def _acts_with(instance: Any, model: type[Model], ours: Side) -> Acts:
    """A bulk write asks the router without the instances: it would overwrite rows of their keys."""
    objects, meta = _manager(model), model._meta
    fields = [f.name for f in meta.concrete_fields if not f.primary_key and not f.generated]
    acts: Acts = {name: getattr(instance, name) for name in ("save", "delete", "refresh_from_db")}
    if meta.total_unique_constraints or _unique(model):
        acts["full_clean"] = instance.full_clean
    return acts | {
        "bulk_update": lambda: objects.bulk_update([instance], fields),
        "bulk_create": lambda: objects.bulk_create([instance]),
        "upsert": lambda: objects.bulk_create(
            [instance],
            update_conflicts=True,
            unique_fields=[meta.pk.attname],
            update_fields=fields,
        ),
        "using": lambda: objects.using(ours.tenant.alias).count(),
    }


def _unique(model: type[Model]) -> bool:
    return any(field.unique and not field.primary_key for field in model._meta.concrete_fields)


def test_a_row_of_ours_cannot_be_related_to_one_of_theirs(ours: Side, theirs: Side) -> None:
    for model, field in RELATIONS:
        related = field.related_model
        relate = {"relate": _relate(_of(ours, model), _of(theirs, related), field)}
        for tenant in (ours.tenant, theirs.tenant):
            assert _taken(tenant, relate) == [], field
        create = {"create": _create(model, field, _of(ours, related))}
        assert _taken(theirs.tenant, create) == [], field


def _relate(instance: Any, target: Any, field: Any) -> Callable[[], object]:
    if isinstance(field, ForeignKey):
        return lambda: setattr(instance, field.name, target)
    return lambda: getattr(instance, field.name).set([target])


def _create(model: type[Model], field: Any, target: Any) -> Callable[[], object]:
    if isinstance(field, ManyToManyField):
        made = getattr(model, field.name).through
        return lambda: _manager(made).create(**{field.m2m_reverse_field_name(): target})
    return lambda: _manager(model).create(**{field.name: target})


def test_a_relation_of_ours_is_not_followed_in_theirs(ours: Side, theirs: Side) -> None:
    for model, field in RELATIONS:
        acts = _follow(_of(ours, model), field.name)
        if (back := accessor_of(field)) is not None:
            parent, child = _of(ours, field.related_model), _of(theirs, model)
            acts |= {f"{name} back": act for name, act in _follow(parent, back).items()}
            if field.one_to_many or field.many_to_one:
                with tenancy.override(ours.tenant):
                    related = getattr(parent, back)
                acts |= _change(related, {field.name: parent.pk}, child)
        assert _taken(theirs.tenant, acts) == [], field


def _follow(instance: Any, name: str) -> Acts:
    return {
        "follow": lambda: getattr(instance, name).count(),
        "prefetch": lambda: prefetch_related_objects([instance], name),
    }


def _change(related: Any, change: dict[str, object], child: Any) -> Acts:
    return {
        "count": related.count,
        "delete": lambda: related.all().delete(),
        "update": lambda: related.update(**change),
        "add": lambda: related.add(child, bulk=False),
    }


def test_the_same_key_names_another_persons_row_on_each_side(ours: Side, theirs: Side) -> None:
    for side in (ours, theirs):
        with tenancy.override(side.tenant):
            user = User.objects.get(pk=rows.ADMIN)
            session = LoginSession.objects.select_related("user").get(pk=rows.TOKEN_SESSION)
        assert user.email == session.user.email == f"admin@{side.domain}"


def test_filters_and_writes_in_ours_reach_ours_alone(ours: Side, theirs: Side) -> None:
    with tenancy.override(ours.tenant):
        assert not User.objects.filter(email__contains=theirs.domain).exists()
        assert User.objects.update(is_active=False) == len(ours.contents()["users"])
        User.objects.all().delete()
    assert ours.contents()["users"] == []
