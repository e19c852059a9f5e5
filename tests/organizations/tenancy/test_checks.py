"""System checks find code that would lead from an organization's database to the master."""

from collections.abc import Callable, Iterator

import pytest
from django.apps.registry import Apps
from django.contrib import admin
from django.contrib.admin.sites import all_sites
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.core.checks import CheckMessage, run_checks
from django.db import models
from django.test.utils import isolate_apps
from pytest_django import Settings

from accounts.models import User
from organizations.models import Organization, Staff
from organizations.tenancy.checks import check_admin, check_relations, check_settings


class OtherRouter:
    """A router that could let a query out."""


Relation = Callable[[type[models.Model]], "models.Field[object, object]"]

RELATIONS: dict[str, Relation] = {
    "ForeignKey": lambda to: models.ForeignKey(to, models.CASCADE, related_name="+"),
    "OneToOneField": lambda to: models.OneToOneField(to, models.CASCADE, related_name="+"),
    "ManyToManyField": lambda to: models.ManyToManyField(to, related_name="+"),
}


@pytest.fixture
def isolated() -> Iterator[Apps]:
    """A registry that forgets the test's models."""
    with isolate_apps("accounts", "organizations") as apps:
        assert apps is not None
        yield apps


def define(label: str, **fields: object) -> type[models.Model]:
    """Define a model of the app."""
    meta = type("Meta", (), {"app_label": label})
    return type("Note", (models.Model,), {"__module__": __name__, "Meta": meta, **fields})


def found(apps: Apps) -> list[CheckMessage]:
    return list(check_relations(list(apps.get_app_configs())))


def relation(label: str, kind: str, target: type[models.Model]) -> list[CheckMessage]:
    """Messages of the check for a model with this kind of relation to the target."""
    with isolate_apps("accounts", "organizations") as apps:
        assert apps is not None
        define(label, link=RELATIONS[kind](target), plain=models.IntegerField())
        return found(apps)


def test_a_relation_between_a_tenant_app_and_the_master_is_an_error() -> None:
    tenants = "accounts.Note.link relates accounts.Note, which is in every organization's database"
    masters = "organizations.Note.link relates accounts.User"
    for kind in RELATIONS:
        for label, target, words in (
            ("accounts", Organization, tenants),
            ("accounts", ContentType, tenants),
            ("organizations", User, masters),
        ):
            messages = relation(label, kind, target)
            assert {message.id for message in messages} == {"tenancy.E001"}, (kind, label)
            assert any(words in message.msg for message in messages), messages
            assert any(target._meta.label in message.msg for message in messages), messages
        # On one side it is in order.
        assert relation("accounts", kind, User) == relation("organizations", kind, Staff) == []


def test_a_generic_relation_is_an_error_that_says_what_to_do_instead(isolated: Apps) -> None:
    define(
        "accounts",
        content_type=models.ForeignKey(ContentType, models.CASCADE, related_name="+"),
        object_id=models.BigIntegerField(),
        about=GenericForeignKey(),
    )
    (message,) = (m for m in found(isolated) if "contenttypes.ContentType" in m.msg)
    assert message.id == "tenancy.E001"
    assert "Use a nullable foreign key" in str(message.hint)


def test_a_generic_relation_to_rows_of_the_masters_is_an_error(isolated: Apps) -> None:
    """They would be joined by the key alone, and each organization has a row of that key."""

    class Tag(models.Model):
        content_type = models.ForeignKey(ContentType, models.CASCADE, related_name="+")
        object_id = models.BigIntegerField()
        about = GenericForeignKey()

        class Meta:
            app_label = "organizations"

    define("accounts", tags=GenericRelation(Tag))
    (message,) = found(isolated)
    assert message.id == "tenancy.E001"
    assert message.msg.startswith("accounts.Note.tags relates accounts.Note")


def test_a_tenant_model_in_django_admin_is_an_error_that_says_what_to_do() -> None:
    assert list(check_admin()) == []
    site = admin.AdminSite(name="a team's")
    try:
        site.register(User)
        site.register(Organization)
        (message,) = (each for each in run_checks() if each.id == "tenancy.E008")
    finally:
        all_sites.discard(site)
    assert message.msg.startswith("accounts.User is registered in Django admin by ModelAdmin")
    assert "Remove the registration" in str(message.hint)
    assert message.is_serious()


def test_inheriting_a_table_of_the_master_is_an_error(isolated: Apps) -> None:
    meta = type("Meta", (), {"app_label": "accounts"})
    type("Branch", (Organization,), {"__module__": __name__, "Meta": meta})
    assert [message.id for message in found(isolated)] == ["tenancy.E001"]


def test_the_project_itself_is_in_order() -> None:
    ours = [m for m in run_checks() if (m.id or "").startswith("tenancy.")]
    assert ours == [], "the project breaks its own rules"


def test_a_tenant_app_that_is_not_installed_is_an_error(settings: Settings) -> None:
    settings.TENANT_APPS = [*settings.TENANT_APPS, "not_installed"]
    (message,) = (each for each in run_checks() if each.id == "tenancy.E002")
    assert "TENANT_APPS names not_installed" in message.msg


def test_routers_other_than_the_tenant_router_alone_are_an_error(settings: Settings) -> None:
    ours, other = "organizations.tenancy.TenantRouter", f"{__name__}.OtherRouter"
    for routers in ([], [other, ours], [ours, other]):
        settings.DATABASE_ROUTERS = routers
        (message,) = check_settings()
        assert message.id == "tenancy.E003"
        assert "only the tenant router" in message.msg


def test_atomic_requests_on_the_master_is_an_error(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(settings.DATABASES["default"], "ATOMIC_REQUESTS", True)
    messages = list(check_settings())
    assert [message.id for message in messages] == ["tenancy.E004"], messages
    assert "ATOMIC_REQUESTS is on for the master database" in messages[0].msg


def test_an_app_with_models_in_neither_list_or_in_both_is_an_error(settings: Settings) -> None:
    """Its one table would hold the rows of all organizations."""
    masters = settings.MASTER_APPS
    settings.MASTER_APPS = [name for name in masters if "sessions" not in name]
    (message,) = check_settings()
    assert message.id == "tenancy.E005"
    assert "django.contrib.sessions has models and is in neither of" in message.msg
    settings.MASTER_APPS = [*masters, "accounts"]
    (message,) = check_settings()
    assert "accounts has models and is in both of" in message.msg
