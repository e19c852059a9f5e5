"""manage.py reseal_credentials"""

from concurrent.futures import ThreadPoolExecutor

import psycopg
from cryptography.fernet import Fernet
from django.conf import settings

from organizations.models import Organization
from organizations.recovery import credentials
from organizations.secrets import seal
from tests.conftest import Company
from tests.organizations.helpers import Superuser, manage, wait_for
from tests.plugin import SERVER


def test_it_says_how_many_it_sealed(alpha: Company, beta: Company) -> None:
    old, new = settings.CREDENTIAL_KEYS[0], Fernet.generate_key().decode()
    rotated = manage("reseal_credentials", CREDENTIAL_KEYS=f"{new},{old}")
    without_it = manage("reseal_credentials")
    back = manage("reseal_credentials", CREDENTIAL_KEYS=f"{old},{new}")
    assert (rotated.returncode, back.returncode) == (0, 0), rotated.stderr + back.stderr
    assert rotated.stdout.startswith("Re-encrypted ")
    assert without_it.returncode == 1
    assert "Add the key that encrypted it to CREDENTIAL_KEYS" in without_it.stderr
    assert credentials.reseal_credentials() >= 2, "the old key opens all of them again"


def test_one_that_is_taken_back_meanwhile_is_passed_over(
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
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    parameters = SERVER.superuser_parameters("master_org_db")
    with psycopg.connect(**parameters) as other, ThreadPoolExecutor(1) as pool:  # type: ignore[arg-type]
        other.execute("DELETE FROM organizations WHERE id = %s", (doomed.pk,))
        resealing = pool.submit(manage, "reseal_credentials")
        wait_for(superuser, waiting)
        other.commit()
        done = resealing.result()
    assert done.returncode == 0, done.stderr
