"""Audit hash keys of organizations, and the audit entry about changed signing keys."""

import hashlib
import hmac
import secrets

from django.conf import settings
from django.db import connections

from accounts.signing_keys import key_id

from .models import AuditEntry, Organization
from .sealing import seal, unseal
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


def note_signing_keys() -> None:
    """Tell the trail where other keys sign tokens than when it was last told. No key is in it.

    They are changed by environment and a restart, so each start comes by here.
    """
    ids = [key_id(secret) for secret in settings.SIGNING_KEYS]
    told = AuditEntry.objects.filter(organization_id=None, act="signing_keys.changed").first()
    if told is None or told.facts.get("keys") != ids:
        trail.record("signing_keys.changed", facts={"keys": ids})
