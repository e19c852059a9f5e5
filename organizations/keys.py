"""Keys: those that the master keeps sealed for each organization (its role's password, and what the
audit trail hashes addresses with), and which ones sign tokens at this time."""

import hashlib
import hmac
import secrets

from django.conf import settings
from django.db import connections, transaction

from accounts.signing_keys import key_id

from .models import AuditEntry, Organization, SpareDatabase
from .sealing import reseal, seal, unseal
from .tenancy import trail


def new_audit_key() -> str:
    """A random key, sealed."""
    return seal(secrets.token_hex(32))


def person_hash(organization_id: int, email_key: str) -> str:
    """What the audit trail calls who has this address: an HMAC under the organization's key.

    Empty where the organization is gone: its key is destroyed with it, and nobody can tell its
    people from then on. Raises CredentialUnreadable.
    """
    key = _audit_key(organization_id)
    if key is None:
        return ""
    return hmac.new(key, email_key.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()


def _audit_key(organization_id: int) -> bytes | None:
    # Asked for each time: a copy in memory would outlive the organization.
    row = _sealed_audit_key(organization_id)
    if row is not None and not row[1]:
        # Of an organization that is older than the trail. Of two that make one, the first wins.
        rows = Organization.objects.live().filter(pk=organization_id, sealed_audit_key="")
        rows.update(sealed_audit_key=new_audit_key())
        row = _sealed_audit_key(organization_id)
    if row is None:
        return None
    name, sealed = row
    return bytes.fromhex(unseal(sealed, owner=name))


def _sealed_audit_key(organization_id: int) -> tuple[str, str] | None:
    """The name and the key as it is stored. Each login asks: written out, as directory's is."""
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "SELECT name, sealed_audit_key FROM organizations "
            "WHERE id = %s AND status <> 'deleted'",
            (organization_id,),
        )
        row: tuple[str, str] | None = cursor.fetchone()
    return row


def reseal_credentials() -> int:
    """Encrypt what is stored with the first of CREDENTIAL_KEYS; of how many organizations.

    Raises CredentialUnreadable for one that no key opens; those before it are done.
    """
    # First: one that is taken before its turn is among the organizations then.
    for spare in SpareDatabase.objects.all():
        sealed = reseal(spare.sealed_password, owner=spare.database_name)
        SpareDatabase.objects.filter(pk=spare.pk).update(sealed_password=sealed)
    count = 0
    for organization in Organization.objects.exclude(sealed_password="").iterator():
        with transaction.atomic(using="default"):
            locked = Organization.objects.select_for_update().filter(pk=organization.pk).first()
            # None: a sign-up that failed has been taken back since the list was read.
            if locked is None or not locked.sealed_password:
                continue
            locked.sealed_password = reseal(locked.sealed_password, owner=locked.name)
            if locked.sealed_audit_key:
                locked.sealed_audit_key = reseal(locked.sealed_audit_key, owner=locked.name)
            locked.save(update_fields=["sealed_password", "sealed_audit_key"])
            trail.record("credentials.resealed", organization_id=locked.pk)
            count += 1
    return count


def note_signing_keys() -> None:
    """Tell the trail where other keys sign tokens than when it was last told. No key is in it.

    They are changed by environment and a restart, so each start comes by here.
    """
    ids = [key_id(secret) for secret in settings.SIGNING_KEYS]
    told = AuditEntry.objects.filter(organization_id=None, act="signing_keys.changed").first()
    if told is None or told.facts.get("keys") != ids:
        trail.record("signing_keys.changed", facts={"keys": ids})
