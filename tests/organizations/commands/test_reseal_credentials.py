"""`manage.py reseal_credentials`: re-encrypts stored passwords with the newest key."""

import io
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.db import connections
from pytest_django import Settings

from organizations.models import Organization
from organizations.recovery import credentials
from organizations.secrets import seal
from tests.conftest import Company
from tests.organizations.helpers import Superuser, wait_for
from tests.plugin import SERVER


def test_it_says_how_many_it_encrypted(alpha: Company, beta: Company, settings: Settings) -> None:
    (old,), new = settings.CREDENTIAL_KEYS, Fernet.generate_key().decode()
    settings.CREDENTIAL_KEYS = [new, old]
    try:
        out = io.StringIO()
        call_command("reseal_credentials", stdout=out)
        assert out.getvalue().startswith("Re-encrypted ")
        settings.CREDENTIAL_KEYS = [old]
        with pytest.raises(CommandError, match="Add the key that encrypted it to CREDENTIAL_KEYS"):
            call_command("reseal_credentials")
    finally:
        settings.CREDENTIAL_KEYS = [old, new]
        credentials.reseal_credentials()


def test_an_organization_undone_during_the_run_is_skipped(
    superuser: Superuser, alpha: Company
) -> None:
    """A failed sign-up's row is removed between the list's reading and the row's lock."""
    doomed = Organization.objects.get(pk=alpha.organization.pk)
    doomed.pk, doomed.key = None, "0" * 32
    doomed.name_digest, doomed.slug = "doomed", "doomed"
    doomed.database_name, doomed.role_name = "org_doomed", "orgrole_doomed"
    doomed.status = Organization.Status.FAILED
    doomed.sealed_password, doomed.sealed_audit_key = seal("whatever"), ""
    doomed.save(force_insert=True)

    def reseal() -> int:
        try:
            return credentials.reseal_credentials()
        finally:
            connections.close_all()

    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    parameters = SERVER.superuser_parameters("master_org_db")
    with psycopg.connect(**parameters) as other, ThreadPoolExecutor(1) as pool:  # type: ignore[arg-type]
        other.execute("DELETE FROM organizations WHERE id = %s", (doomed.pk,))
        resealing = pool.submit(reseal)
        wait_for(superuser, waiting)
        other.commit()
        assert resealing.result() >= 1
