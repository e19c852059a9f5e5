"""manage.py reseal_credentials"""

from cryptography.fernet import Fernet
from django.conf import settings

from organizations import keys
from tests.conftest import Company
from tests.organizations.helpers import manage


def test_it_says_how_many_it_sealed(alpha: Company, beta: Company) -> None:
    old, new = settings.CREDENTIAL_KEYS[0], Fernet.generate_key().decode()
    rotated = manage("reseal_credentials", CREDENTIAL_KEYS=f"{new},{old}")
    without_it = manage("reseal_credentials")
    back = manage("reseal_credentials", CREDENTIAL_KEYS=f"{old},{new}")
    assert (rotated.returncode, back.returncode) == (0, 0), rotated.stderr + back.stderr
    assert rotated.stdout.startswith("Sealed ")
    assert without_it.returncode == 1
    assert "Add the key that sealed it to CREDENTIAL_KEYS" in without_it.stderr
    assert keys.reseal_credentials() >= 2, "the old key opens all of them again"
