"""Every tenant model, in code: what was loaded in one organization is no good in another."""

from typing import Any

import pytest
from django.db.models import ForeignKey, ManyToManyField, Model, prefetch_related_objects

from accounts.models import LoginSession, User
from organizations import tenancy
from organizations.isolation import Side, rows
from organizations.isolation.relations import accessor_of, relations_of
from organizations.tenancy import NoTenant, WrongTenant

pytest_plugins = ["tests.isolation.fixtures"]

MODELS = rows.tenant_models()
every_model = pytest.mark.parametrize("model", MODELS, ids=[each._meta.label for each in MODELS])
RELATIONS = [(model, field) for model in MODELS for field in relations_of(model)]
every_relation = pytest.mark.parametrize(
    ("model", "field"), RELATIONS, ids=[f"{m._meta.label}.{each.name}" for m, each in RELATIONS]
)


def _manager(model: type[Model]) -> Any:
    return model._default_manager


def _of(side: Side, model: type[Model]) -> Any:
    """The model's first row on this side."""
    with tenancy.override(side.tenant):
        return _manager(model).order_by("pk").first()


@every_model
def test_both_sides_have_rows_of_the_same_keys(
    ours: Side, theirs: Side, model: type[Model]
) -> None:
    with tenancy.override(ours.tenant):
        our_keys = set(_manager(model).values_list("pk", flat=True))
    with tenancy.override(theirs.tenant):
        their_keys = set(_manager(model).values_list("pk", flat=True))
    assert our_keys, "add rows of it to ROWS in organizations/isolation/rows.py"
    assert our_keys == their_keys


@every_model
def test_reading_yields_the_rows_of_the_active_organization(
    ours: Side, theirs: Side, model: type[Model]
) -> None:
    for side in (ours, theirs):
        stored = {str(row[0]) for row in side.contents()[model._meta.db_table]}
        with tenancy.override(side.tenant):
            found = list(_manager(model).all())
        assert {str(each.pk) for each in found} == stored
        assert {each._state.db for each in found} == {side.tenant.alias}


@every_model
def test_without_an_organization_nothing_is_read_or_written(
    ours: Side, theirs: Side, model: type[Model]
) -> None:
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


@every_model
@pytest.mark.parametrize("action", ["save", "delete", "refresh_from_db", "full_clean"])
def test_an_instance_of_ours_is_refused_by_theirs(
    ours: Side, theirs: Side, model: type[Model], action: str
) -> None:
    instance = _of(ours, model)
    if action == "full_clean" and not (model._meta.total_unique_constraints or _unique(model)):
        action = "save"
    with tenancy.override(theirs.tenant), pytest.raises(WrongTenant, match=theirs.tenant.alias):
        getattr(instance, action)()


def _unique(model: type[Model]) -> bool:
    return any(field.unique and not field.primary_key for field in model._meta.concrete_fields)


@every_model
def test_an_instance_of_ours_is_refused_when_saved_in_bulk_by_theirs(
    ours: Side, theirs: Side, model: type[Model]
) -> None:
    """A bulk write asks the router without the instances: it would overwrite rows of their keys."""
    instance = _of(ours, model)
    fields = [f.name for f in model._meta.concrete_fields if not f.primary_key and not f.generated]
    with tenancy.override(theirs.tenant):
        with pytest.raises(WrongTenant, match="belongs to"):
            _manager(model).bulk_update([instance], fields)
        with pytest.raises(WrongTenant, match="belongs to"):
            _manager(model).bulk_create([instance])
        with pytest.raises(WrongTenant, match="belongs to"):
            _manager(model).bulk_create(
                [instance],
                update_conflicts=True,
                unique_fields=[model._meta.pk.attname],
                update_fields=fields,
            )


@every_model
def test_a_queryset_made_in_ours_reads_theirs_where_theirs_is_active(
    ours: Side, theirs: Side, model: type[Model]
) -> None:
    with tenancy.override(ours.tenant):
        lazy = _manager(model).all()
    with tenancy.override(theirs.tenant):
        assert {each._state.db for each in lazy} == {theirs.tenant.alias}


@every_model
def test_a_queryset_bound_to_our_alias_is_refused_in_theirs(
    ours: Side, theirs: Side, model: type[Model]
) -> None:
    with (
        tenancy.override(ours.tenant),
        tenancy.override(theirs.tenant),
        pytest.raises(WrongTenant, match=ours.tenant.alias),
    ):
        _manager(model).using(ours.tenant.alias).count()


@every_relation
def test_a_row_of_ours_cannot_be_related_to_one_of_theirs(
    ours: Side, theirs: Side, model: type[Model], field: Any
) -> None:
    instance = _of(ours, model)
    target = _of(theirs, field.related_model)
    for tenant in (ours.tenant, theirs.tenant):
        with tenancy.override(tenant), pytest.raises(WrongTenant, match="belongs to"):
            if isinstance(field, ForeignKey):
                setattr(instance, field.name, target)
            else:
                getattr(instance, field.name).set([target])


@every_relation
def test_a_new_row_cannot_be_made_with_a_relation_across(
    ours: Side, theirs: Side, model: type[Model], field: Any
) -> None:
    target = _of(ours, field.related_model)
    made: Any = model
    name: str = field.name
    if isinstance(field, ManyToManyField):
        made = getattr(model, field.name).through
        name = field.m2m_reverse_field_name()
    with tenancy.override(theirs.tenant), pytest.raises(WrongTenant, match="belongs to"):
        _manager(made).create(**{name: target})


@every_relation
def test_a_relation_is_not_followed_in_theirs(
    ours: Side, theirs: Side, model: type[Model], field: Any
) -> None:
    instance = _of(ours, model)
    with tenancy.override(theirs.tenant):
        with pytest.raises(WrongTenant, match="belongs to"):
            getattr(instance, field.name).count()
        with pytest.raises(WrongTenant, match="belongs to"):
            prefetch_related_objects([instance], field.name)


@every_relation
def test_a_relation_is_not_followed_backwards_in_theirs(
    ours: Side, theirs: Side, model: type[Model], field: Any
) -> None:
    name = accessor_of(field)
    if name is None:
        return
    parent, child = _of(ours, field.related_model), _of(theirs, model)
    acts: list[Any] = [
        lambda: prefetch_related_objects([parent], name),
        lambda: getattr(parent, name).count(),
    ]
    if field.one_to_many or field.many_to_one:
        with tenancy.override(ours.tenant):
            related = getattr(parent, name)
        acts += [
            related.count,
            lambda: related.all().delete(),
            lambda: related.update(**{field.name: parent.pk}),
            lambda: related.add(child, bulk=False),
        ]
    with tenancy.override(theirs.tenant):
        for act in acts:
            with pytest.raises(WrongTenant, match="belongs to"):
                act()


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
