"""Every tenant model: queries read and write the rows of the active organization."""

from typing import Any

from django.db.models import Model

from accounts.models import LoginSession, User
from organizations import tenancy
from organizations.isolation import Side, rows

pytest_plugins = ["tests.isolation.fixtures"]

MODELS = rows.tenant_models()


def _manager(model: type[Model]) -> Any:
    return model._default_manager


def _keys(side: Side, model: type[Model]) -> set[Any]:
    with tenancy.override(side.tenant):
        return set(_manager(model).values_list("pk", flat=True))


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
