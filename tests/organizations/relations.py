"""Test models with a relation of each kind, whose tables exist for a module of tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from django.db import models
from django.test.utils import isolate_apps

from organizations import tenancy
from organizations.tenancy import Tenant


class Relations:
    """The models, of the app `accounts` but in no app registry."""

    def __init__(self) -> None:
        with isolate_apps("accounts"):

            class Person(models.Model):
                name = models.CharField(max_length=60, unique=True)

                class Meta:
                    app_label = "accounts"

            class Club(models.Model):
                name = models.CharField(max_length=60)
                members = models.ManyToManyField(Person, related_name="clubs")
                hidden: Any = models.ManyToManyField(Person, related_name="+")
                guests: Any = models.ManyToManyField(
                    Person, through="Visit", through_fields=("club", "person"), related_name="seen"
                )
                friends: Any = models.ManyToManyField("self")
                parent = models.ForeignKey("self", null=True, on_delete=models.CASCADE)
                logo = models.FileField(null=True)

                class Meta:
                    app_label = "accounts"

            class Visit(models.Model):
                club = models.ForeignKey(Club, on_delete=models.CASCADE)
                person = models.ForeignKey(Person, on_delete=models.CASCADE)
                asked_by = models.ForeignKey(
                    Person, null=True, related_name="+", on_delete=models.SET_NULL
                )

                class Meta:
                    app_label = "accounts"
                    order_with_respect_to = "club"

            class Badge(models.Model):
                person = models.OneToOneField(
                    Person, primary_key=True, related_name="badge", on_delete=models.CASCADE
                )
                lent_to = models.ForeignKey(
                    Person, null=True, related_name="lent", on_delete=models.SET_NULL
                )
                length = models.GeneratedField(
                    expression=models.Value(1),
                    output_field=models.IntegerField(),
                    db_persist=True,
                )

                class Meta:
                    app_label = "accounts"

            class Captain(Person):
                since = models.IntegerField(default=0)

                class Meta:
                    app_label = "accounts"

            class Nickname(Person):
                class Meta:
                    app_label = "accounts"
                    proxy = True

        self.Person: Any = Person
        self.Club: Any = Club
        self.Visit: Any = Visit
        self.Badge: Any = Badge
        self.Captain: Any = Captain
        self.Nickname: Any = Nickname
        self.written = cast(list[type[models.Model]], [Person, Club, Visit, Badge, Captain])
        self.throughs: list[type[models.Model]] = [
            Club.members.through,
            Club.hidden.through,
            Club.friends.through,
        ]

    def plant(self, domain: str) -> None:
        """Rows under keys that begin at 1, in the organization that is active."""
        first, second = (
            self.Person.objects.create(name=f"{name}@{domain}") for name in ("first", "second")
        )
        club = self.Club.objects.create(name=f"club@{domain}", logo="logo.png")
        other = self.Club.objects.create(name=f"other@{domain}", parent=club)
        club.members.add(first)
        self.Visit.objects.create(club=club, person=first)
        self.Visit.objects.create(club=club, person=second)
        self.Badge.objects.create(person=first)
        self.Captain.objects.create(name=f"captain@{domain}")
        assert (first.pk, club.pk, other.pk) == (1, 1, 2)


@contextmanager
def tables_of(relations: Relations, *tenants: Tenant) -> Iterator[None]:
    """The tables, in each of the organizations."""
    made = []
    try:
        for tenant in tenants:
            with tenancy.override(tenant), tenancy.connection().schema_editor() as editor:
                for model in relations.written:
                    editor.create_model(model)
            made.append(tenant)
        yield
    finally:
        for tenant in made:
            with tenancy.override(tenant), tenancy.connection().cursor() as cursor:
                for model in (*relations.throughs, *relations.written):
                    cursor.execute(f'DROP TABLE "{model._meta.db_table}" CASCADE')
