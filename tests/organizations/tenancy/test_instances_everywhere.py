"""An instance of beta is refused in alpha, in every way that Django takes an instance."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.core import serializers
from django.db import IntegrityError, models, transaction
from django.db.models import Case, Exists, F, FilteredRelation, OuterRef, Q, Value, When
from django.db.models.deletion import Collector
from django.db.models.fields.related_lookups import RelatedExact
from django.forms import ModelChoiceField, ModelMultipleChoiceField, modelform_factory
from django.forms.models import model_to_dict
from django.test.utils import isolate_apps
from psycopg import sql
from pytest_django import DjangoDbBlocker

from accounts.models import User
from organizations import tenancy
from organizations.tenancy import WrongTenant
from tests.conftest import Company
from tests.organizations.relations import Relations, tables_of


@pytest.fixture(scope="module")
def tables(
    cast: tuple[Company, Company], django_db_blocker: DjangoDbBlocker
) -> Iterator[Relations]:
    relations = Relations()
    with (
        django_db_blocker.unblock(),
        tables_of(relations, cast[0].tenant, cast[1].tenant),
    ):
        for company in cast:
            with tenancy.override(company.tenant):
                relations.plant(company.email.partition("@")[2])
        yield relations


class World:
    """Alpha's objects and beta's, of equal keys, and what can be done with them."""

    def __init__(self, relations: Relations, alpha: Company, beta: Company) -> None:
        self.models = relations
        for name, company in (("own", alpha), ("their", beta)):
            with tenancy.override(company.tenant):
                for model in relations.written:
                    found = model._default_manager.order_by("pk").first()
                    setattr(self, f"{name}_{model.__name__.lower()}", found)
                setattr(self, f"{name}_other", relations.Club.objects.get(pk=2))
                setattr(self, f"{name}_members", getattr(self, f"{name}_club").members)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.models, name)


@pytest.fixture
def world(tables: Relations, alpha: Company, beta: Company) -> World:
    return World(tables, alpha, beta)


def contents(company: Company, relations: Relations) -> dict[str, list[Any]]:
    """All rows, asked for by SQL."""
    with tenancy.override(company.tenant), tenancy.connection().cursor() as cursor:
        found = {}
        for model in (*relations.written, *relations.throughs):
            table = model._meta.db_table
            cursor.execute(sql.SQL("SELECT * FROM {} ORDER BY 1").format(sql.Identifier(table)))
            found[table] = cursor.fetchall()
        return found


def _collect(instance: Any) -> None:
    collector = Collector(using=tenancy.get().alias)
    collector.collect([instance])
    collector.delete()


def _choice(world: World, field: type[Any], value: Any) -> Any:
    return field(queryset=world.Person.objects.all()).clean(value)


# By what the developer writes. `their_…` is beta's, and alpha is active.
WAYS: dict[str, Callable[[Any], object]] = {
    # --- Query sets ------------------------------------------------------------------------------
    "update": lambda w: w.Visit.objects.update(person=w.their_person),
    "update: Case": lambda w: w.Visit.objects.update(
        person_id=Case(When(person=w.their_person, then=2), default=2)
    ),
    "contains": lambda w: w.Person.objects.all().contains(w.their_person),
    "contains, fetched": lambda w: _fetched(w.Person.objects.all()).contains(w.their_person),
    "filter": lambda w: w.Visit.objects.filter(person=w.their_person).delete(),
    "filter by key": lambda w: w.Badge.objects.filter(pk=w.their_person).delete(),
    "filter backwards": lambda w: w.Person.objects.filter(visit=w.their_visit).delete(),
    "filter over a relation": lambda w: w.Visit.objects.filter(
        club__members=w.their_person
    ).delete(),
    "filter in": lambda w: w.Visit.objects.filter(person__in=iter([w.their_person])).delete(),
    "exclude": lambda w: w.Visit.objects.exclude(person=w.their_person).delete(),
    "get": lambda w: w.Visit.objects.get(person=w.their_person),
    "get_or_create": lambda w: w.Visit.objects.get_or_create(
        person=w.their_person, club=w.own_club
    ),
    "get_or_create, defaults": lambda w: w.Visit.objects.get_or_create(
        pk=9, defaults={"person": w.their_person, "club": w.own_club}
    ),
    "update_or_create": lambda w: w.Visit.objects.update_or_create(
        pk=1, defaults={"person": w.their_person}
    ),
    "create": lambda w: w.Visit.objects.create(person=w.their_person, club=w.own_club),
    "annotate: When": lambda w: list(
        w.Visit.objects.annotate(x=Case(When(person=w.their_person, then=1)))
    ),
    "annotate: Exists": lambda w: list(
        w.Club.objects.annotate(
            x=Exists(w.Visit.objects.filter(club=OuterRef("pk"), person=w.their_person))
        )
    ),
    "annotate: FilteredRelation": lambda w: list(
        w.Club.objects.annotate(
            x=FilteredRelation("visit", condition=Q(visit__person=w.their_person))
        ).filter(x__isnull=False)
    ),
    "aggregate": lambda w: w.Visit.objects.aggregate(
        x=models.Count("pk", filter=Q(person=w.their_person))
    ),
    "bulk_create": lambda w: w.Visit.objects.bulk_create([w.their_visit]),
    "bulk_update": lambda w: w.Visit.objects.bulk_update(iter([w.their_visit]), ["asked_by"]),
    "prefetch": lambda w: models.prefetch_related_objects([w.own_visit, w.their_visit], "person"),
    "prefetch backwards": lambda w: models.prefetch_related_objects(
        [w.own_person, w.their_person], "visit_set"
    ),
    "prefetch many": lambda w: models.prefetch_related_objects(
        [w.own_club, w.their_club], "members"
    ),
    "prefetch one": lambda w: models.prefetch_related_objects(
        [w.own_person, w.their_person], "badge"
    ),
    # --- An instance's own methods ---------------------------------------------------------------
    "save using=": lambda w: w.their_person.save(using=tenancy.get().alias),
    "delete using=": lambda w: w.their_person.delete(using=tenancy.get().alias),
    "refresh using=": lambda w: w.their_person.refresh_from_db(using=tenancy.get().alias),
    "refresh from a query set": lambda w: w.their_person.refresh_from_db(
        from_queryset=w.Person.objects.all()
    ),
    "Collector": lambda w: _collect(w.their_person),
    "validate_unique": lambda w: w.their_person.validate_unique(),
    "next in order": lambda w: w.their_visit.get_next_in_order(),
    "order of the related": lambda w: list(w.their_club.get_visit_order()),
    "set order of the related": lambda w: w.their_club.set_visit_order([2, 1]),
    "a file": lambda w: w.their_club.logo,
    "serialized": lambda w: serializers.serialize("json", [w.their_person]),
    "model_to_dict": lambda w: model_to_dict(w.their_person),
    # --- Relations -------------------------------------------------------------------------------
    "assign": lambda w: setattr(w.own_visit, "person", w.their_person),
    "assign backwards": lambda w: setattr(w.own_person, "badge", w.their_badge),
    "a relation that is NULL": lambda w: w.their_visit.asked_by,
    "add to a foreign key's": lambda w: w.own_person.lent.add(w.their_badge),
    "remove from a foreign key's": lambda w: w.own_club.club_set.remove(w.their_other),
    "set a foreign key's": lambda w: w.own_club.club_set.set([w.their_other]),
    "clear another's": lambda w: w.their_person.lent.clear(),
    "add to many": lambda w: w.own_club.members.add(w.their_person),
    "add to many, backwards": lambda w: w.own_person.clubs.add(w.their_club),
    "add to oneself": lambda w: w.own_club.friends.add(w.their_club),
    "remove from many": lambda w: w.own_club.members.remove(w.their_person),
    "remove from many, backwards": lambda w: w.own_person.clubs.remove(w.their_club),
    "set many": lambda w: w.own_club.members.set([w.their_person]),
    "set many, cleared": lambda w: w.own_club.members.set([w.their_person], clear=True),
    "add to many, with defaults": lambda w: w.own_club.guests.add(
        w.own_captain, through_defaults={"asked_by": w.their_person, "_order": 9}
    ),
    "add to another's many": lambda w: w.their_club.members.add(w.own_person),
    "clear another's many": lambda w: w.their_club.members.clear(),
    "count another's many": lambda w: w.their_club.members.count(),
    "add a key to another's many, kept": lambda w: w.their_members.add(w.own_person.pk),
    # --- Forms -----------------------------------------------------------------------------------
    "a form's choice": lambda w: _choice(w, ModelChoiceField, w.their_person),
    "a form's choices": lambda w: _choice(w, ModelMultipleChoiceField, [w.their_person]),
    "a form's instance": lambda w: modelform_factory(w.Person, fields=["name"])(
        {"name": "new"}, instance=w.their_person
    ).save(),
}


def _fetched(queryset: Any) -> Any:
    len(queryset)
    return queryset


def test_an_instance_of_beta_is_taken_nowhere_in_alpha(
    tables: Relations, alpha: Company, beta: Company
) -> None:
    before = contents(alpha, tables), contents(beta, tables)
    for way, act in WAYS.items():
        world = World(tables, alpha, beta)
        with (
            tenancy.override(alpha.tenant),
            pytest.raises(WrongTenant, match=f"belongs to {beta.tenant.alias}, but"),
            tenancy.atomic(),
        ):
            act(world)
            transaction.set_rollback(True, using=alpha.tenant.alias)
            pytest.fail(f"not refused: {way}")
        assert (contents(alpha, tables), contents(beta, tables)) == before, way


# What Django refuses by itself: there is no key in a whole instance.
SENSELESS: dict[str, Callable[[Any], object]] = {
    "Value": lambda w: w.Visit.objects.update(person_id=Value(w.their_person)),
    "Value of a field": lambda w: w.Visit.objects.update(
        person=Value(w.their_person, output_field=w.Visit._meta.get_field("person"))
    ),
    "update by key's name": lambda w: w.Visit.objects.update(asked_by_id=w.their_person),
    "lookup by hand": lambda w: list(
        w.Visit.objects.filter(RelatedExact(F("person"), w.their_person))
    ),
    "a plain key": lambda w: w.Person.objects.filter(pk=w.their_person).delete(),
    "in_bulk": lambda w: w.Person.objects.in_bulk([w.their_person]),
    "given as a key": lambda w: w.Visit.objects.create(person_id=w.their_person, club=w.own_club),
    "raw": lambda w: list(
        w.Person.objects.raw("SELECT * FROM accounts_person WHERE id = %s", [w.their_person])
    ),
}


def test_an_instance_where_django_wants_a_value_reaches_no_row(
    world: World, alpha: Company, beta: Company
) -> None:
    before = contents(alpha, world.models), contents(beta, world.models)
    for way, act in SENSELESS.items():
        with tenancy.override(alpha.tenant), pytest.raises(Exception), tenancy.atomic():  # noqa: B017, PT011
            act(world)
            pytest.fail(f"not refused: {way}")
    assert (contents(alpha, world.models), contents(beta, world.models)) == before


class _Done(Exception):
    pass


def test_ones_own_instance_goes_the_same_way(tables: Relations, alpha: Company) -> None:
    """Or the test above would prove nothing: something else may be wrong with the way."""
    for way, act in WAYS.items():
        world = World(tables, alpha, alpha)
        with tenancy.override(alpha.tenant), suppress(_Done), tenancy.atomic():
            # One row of this key is there already.
            with suppress(IntegrityError) if way == "bulk_create" else nullcontext():
                act(world)
            raise _Done


def test_equal_keys_of_two_organizations_are_two_objects(
    world: World, alpha: Company, beta: Company
) -> None:
    assert world.own_person.pk == world.their_person.pk
    assert world.own_person != world.their_person
    with tenancy.override(alpha.tenant):
        again = world.Person.objects.get(pk=world.own_person.pk)
        assert again == world.own_person and world.own_person in world.Person.objects.all()
        assert world.their_person not in world.Person.objects.all()
    assert world.Person(pk=1) == world.own_person, "one that was never saved is nobody's"


def test_a_condition_stays_with_the_organization_of_its_instance(
    world: World, alpha: Company, beta: Company
) -> None:
    with tenancy.override(beta.tenant):
        conditions = (
            world.Visit.objects.filter(person=world.their_person),
            world.Visit.objects.exclude(person__in=[world.their_person]),
            world.Club.objects.filter(visit__person=world.their_person).values("pk"),
        )
        assert [len(each.all()) for each in conditions] == [1, 1, 1]
    with tenancy.override(alpha.tenant):
        for each in conditions:
            with pytest.raises(WrongTenant, match="This condition belongs to"):
                len(each.all())
        with pytest.raises(WrongTenant):
            conditions[0].delete()
    assert "person_id" in str(conditions[0].query), "it can be printed anywhere"


@isolate_apps("organizations")
def test_a_generic_relation_of_the_masters_leads_to_no_organization(
    world: World, alpha: Company
) -> None:
    """Its row in the master would hold a key, and each organization has one of that key."""

    class Note(models.Model):
        content_type = models.ForeignKey(ContentType, on_delete=models.CASCADE)
        object_id = models.BigIntegerField()
        about = GenericForeignKey()

        class Meta:
            app_label = "organizations"

    with tenancy.override(alpha.tenant):
        user = User.objects.get(pk=1)
        for act in (lambda: Note(about=user), lambda: setattr(Note(), "about", user)):
            with pytest.raises(ValueError, match="are in different databases"):
                act()
    assert Note(about=ContentType.objects.get_for_model(User)).object_id is not None
