"""manage.py check finds what would lead from an organization's database to the master."""

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
    """A model of the app, made on the spot."""
    meta = type("Meta", (), {"app_label": label})
    return type("Note", (models.Model,), {"__module__": __name__, "Meta": meta, **fields})


def found(apps: Apps) -> list[CheckMessage]:
    return list(check_relations(list(apps.get_app_configs())))


@pytest.mark.parametrize("kind", RELATIONS)
@pytest.mark.parametrize("target", [Organization, Staff, ContentType])
def test_a_relation_from_a_tenant_app_to_the_master_is_an_error(
    isolated: Apps, kind: str, target: type[models.Model]
) -> None:
    define("accounts", link=RELATIONS[kind](target))
    messages = found(isolated)
    assert {message.id for message in messages} == {"tenancy.E001"}, messages
    wanted = "accounts.Note.link relates accounts.Note, which is in every organization's database"
    assert any(message.msg.startswith(wanted) for message in messages), messages
    assert any(target._meta.label in message.msg for message in messages), messages


@pytest.mark.parametrize("kind", RELATIONS)
def test_a_relation_from_the_master_to_a_tenant_app_is_an_error(isolated: Apps, kind: str) -> None:
    define("organizations", link=RELATIONS[kind](User))
    messages = found(isolated)
    assert {message.id for message in messages} == {"tenancy.E001"}, messages
    assert any("organizations.Note.link relates accounts.User" in m.msg for m in messages), messages


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


@pytest.mark.parametrize(("label", "target"), [("accounts", User), ("organizations", Staff)])
@pytest.mark.parametrize("kind", RELATIONS)
def test_a_relation_on_one_side_is_in_order(
    isolated: Apps, kind: str, label: str, target: type[models.Model]
) -> None:
    define(label, link=RELATIONS[kind](target), plain=models.IntegerField())
    assert found(isolated) == []


def test_the_project_itself_is_in_order() -> None:
    ours = [m for m in run_checks() if (m.id or "").startswith("tenancy.")]
    assert ours == [], "the project breaks its own rules"


def test_the_checks_are_registered_with_django(settings: Settings) -> None:
    settings.TENANT_APPS = [*settings.TENANT_APPS, "not_installed"]
    assert "tenancy.E002" in {message.id for message in run_checks()}


def test_a_tenant_app_that_is_not_installed_is_an_error(settings: Settings) -> None:
    settings.TENANT_APPS = [*settings.TENANT_APPS, "not_installed"]
    messages = list(check_settings())
    assert [message.id for message in messages] == ["tenancy.E002"], messages
    assert "TENANT_APPS names not_installed" in messages[0].msg


@pytest.mark.parametrize(
    "routers",
    [
        [],
        [f"{__name__}.OtherRouter", "organizations.tenancy.TenantRouter"],
        ["organizations.tenancy.TenantRouter", f"{__name__}.OtherRouter"],
    ],
)
def test_routers_other_than_the_tenant_router_alone_are_an_error(
    settings: Settings, routers: list[str]
) -> None:
    settings.DATABASE_ROUTERS = routers
    messages = list(check_settings())
    assert [message.id for message in messages] == ["tenancy.E003"], messages
    assert "only the tenant router" in messages[0].msg


def test_atomic_requests_on_the_master_is_an_error(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(settings.DATABASES["default"], "ATOMIC_REQUESTS", True)
    messages = list(check_settings())
    assert [message.id for message in messages] == ["tenancy.E004"], messages
    assert "ATOMIC_REQUESTS is on for the master database" in messages[0].msg


def test_an_app_with_models_in_neither_list_is_an_error(settings: Settings) -> None:
    """Its one table would hold the rows of all organizations."""
    settings.MASTER_APPS = [name for name in settings.MASTER_APPS if "sessions" not in name]
    (message,) = check_settings()
    assert message.id == "tenancy.E005"
    assert "django.contrib.sessions has models and is in neither of" in message.msg


def test_an_app_in_both_lists_is_an_error(settings: Settings) -> None:
    settings.MASTER_APPS = [*settings.MASTER_APPS, "accounts"]
    (message,) = check_settings()
    assert "accounts has models and is in both of" in message.msg
