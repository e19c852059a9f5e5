"""Sealed database passwords, and rotation of their keys."""

import pytest
from cryptography.fernet import Fernet
from django.apps import apps
from pytest_django import Settings

from accounts.models import User
from organizations import tenancy
from organizations.errors import CredentialUnreadable
from organizations.jobs.models import PendingSignUp
from organizations.models import Organization
from organizations.recovery import credentials
from organizations.secrets import reseal, seal, unseal
from organizations.tenancy import registry
from tests.conftest import Company


def stored(company: Company) -> str:
    return Organization.objects.get(pk=company.organization.pk).sealed_password


def test_a_sealed_secret_opens_again_and_does_not_hold_the_secret() -> None:
    sealed = seal("geheim")
    assert unseal(sealed, owner="Acme") == "geheim"
    assert "geheim" not in sealed


def test_what_no_key_opens_names_its_owner_and_what_to_do(settings: Settings) -> None:
    sealed = seal("geheim")
    settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode()]
    for open_it in (unseal, reseal):
        with pytest.raises(CredentialUnreadable, match="'Acme'.*Add the key") as caught:
            open_it(sealed, owner="Acme")
        assert "geheim" not in str(caught.value)


def test_resealed_credentials_open_with_the_new_key_alone(
    settings: Settings, alpha: Company, beta: Company
) -> None:
    old = list(settings.CREDENTIAL_KEYS)
    new = Fernet.generate_key().decode()
    before = {company.name: unseal(stored(company), owner="") for company in (alpha, beta)}
    try:
        settings.CREDENTIAL_KEYS = [new, *old]
        assert credentials.reseal_credentials() >= 2
        settings.CREDENTIAL_KEYS = [new]
        for company in (alpha, beta):
            assert unseal(stored(company), owner="") == before[company.name]
        registry.forget(alpha.tenant.alias)
        with tenancy.override(alpha.tenant):
            assert User.objects.count() == 1, "the organization can be reached as before"
    finally:
        settings.CREDENTIAL_KEYS = [*old, new]
        credentials.reseal_credentials()


def test_an_unreadable_credential_stops_resealing_and_stays(
    settings: Settings, alpha: Company
) -> None:
    before = stored(alpha)
    settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode()]
    with pytest.raises(CredentialUnreadable):
        credentials.reseal_credentials()
    assert stored(alpha) == before


def test_an_organization_with_an_unreadable_credential_cannot_be_entered(
    settings: Settings, alpha: Company
) -> None:
    settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode()]
    registry.forget(alpha.tenant.alias)
    with pytest.raises(CredentialUnreadable, match=alpha.name), tenancy.override(alpha.tenant):
        pass
    assert tenancy.peek() is None


def test_no_representation_of_an_organization_shows_its_credential(alpha: Company) -> None:
    organization = Organization.objects.get(pk=alpha.organization.pk)
    sealed = organization.sealed_password
    secret = unseal(sealed, owner="")
    for text in (repr(organization), str(organization), repr(organization.tenant)):
        assert sealed not in text
        assert secret not in text


def test_rotating_reaches_everything_that_the_master_keeps_sealed(
    alpha: Company, settings: Settings
) -> None:
    """A sign-up that waits has its password's hash sealed."""
    pending = PendingSignUp.objects.create(
        token_digest="x", name="Waiting", name_digest="x", sealed_password_hash=seal("a hash")
    )
    old, new = settings.CREDENTIAL_KEYS[0], Fernet.generate_key().decode()
    try:
        settings.CREDENTIAL_KEYS = [new, old]
        credentials.reseal_credentials()
        settings.CREDENTIAL_KEYS = [new]
        tried = 0
        for model in apps.get_models():
            for field in model._meta.concrete_fields:
                if not field.name.startswith("sealed_") or model._meta.proxy:
                    continue
                for sealed in model._base_manager.values_list(field.name, flat=True):
                    tried += bool(sealed and unseal(sealed, owner=f"{model.__name__}.{field.name}"))
        assert tried >= 3
    finally:
        settings.CREDENTIAL_KEYS = [old, new]
        credentials.reseal_credentials()
        pending.delete()
