"""Encrypts stored credentials (Fernet, CREDENTIAL_KEYS), signs manifests of backups, and keeps the
audit trail's hash keys."""

import hashlib
import hmac
import secrets

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import connections
from django.utils.crypto import constant_time_compare, salted_hmac

from accounts.signing_keys import key_id

from .errors import CredentialUnreadable
from .models import AuditEntry, Organization
from .tenancy import trail


def _fernet() -> MultiFernet:
    return MultiFernet([Fernet(key) for key in settings.CREDENTIAL_KEYS])


def seal(secret: str) -> str:
    """Encrypt `secret` with the first of CREDENTIAL_KEYS."""
    return _fernet().encrypt(secret.encode()).decode()


def unseal(sealed: str, *, owner: str) -> str:
    """Decrypt. Raises CredentialUnreadable, naming `owner`, if no key works."""
    try:
        return _fernet().decrypt(sealed.encode()).decode()
    except InvalidToken as error:
        raise CredentialUnreadable(owner) from error


def reseal(sealed: str, *, owner: str) -> str:
    """Re-encrypt with the first of CREDENTIAL_KEYS. Raises CredentialUnreadable."""
    try:
        return _fernet().rotate(sealed.encode()).decode()
    except InvalidToken as error:
        raise CredentialUnreadable(owner) from error


def sign(content: bytes, *, salt: str) -> str:
    """An HMAC under the first of CREDENTIAL_KEYS. salt: what kind of content it is."""
    return _hmac(settings.CREDENTIAL_KEYS[0], content, salt)


def is_signed(content: bytes, signature: str, *, salt: str) -> bool:
    """Whether one of CREDENTIAL_KEYS signed it."""
    return any(
        constant_time_compare(signature, _hmac(key, content, salt))
        for key in settings.CREDENTIAL_KEYS
    )


def _hmac(key: str, content: bytes, salt: str) -> str:
    return salted_hmac(salt, content, secret=key, algorithm="sha256").hexdigest()


# --- Keys of the audit trail ---------------------------------------------------------------------
def new_audit_key() -> str:
    """A random key, encrypted."""
    return seal(secrets.token_hex(32))


def person_hash(organization_id: int, email_key: str) -> str:
    """The audit trail's hash of an address: an HMAC under the organization's key.

    Empty if the organization is deleted: its key is destroyed, so its users can no longer be
    identified. Raises CredentialUnreadable.
    """
    key = _audit_key(organization_id)
    if key is None:
        return ""
    return hmac.new(key, email_key.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()


def _audit_key(organization_id: int) -> bytes | None:
    # Queried each time: a copy in memory would outlive the organization.
    row = _sealed_audit_key(organization_id)
    if row is not None and not row[1]:
        # The organization is older than the trail. If two processes make a key, the first wins.
        rows = Organization.objects.live().filter(pk=organization_id, sealed_audit_key="")
        rows.update(sealed_audit_key=new_audit_key())
        row = _sealed_audit_key(organization_id)
    if row is None:
        return None
    name, sealed = row
    return bytes.fromhex(unseal(sealed, owner=name))


def _sealed_audit_key(organization_id: int) -> tuple[str, str] | None:
    """The name and the stored key. Raw SQL, since each login needs it."""
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "SELECT name, sealed_audit_key FROM organizations WHERE id = %s AND status <> %s",
            (organization_id, Organization.Status.DELETED),
        )
        row: tuple[str, str] | None = cursor.fetchone()
    return row


def note_signing_keys() -> None:
    """Record changed signing keys in the audit trail, without the keys.

    They change by environment and restart, so each start calls this.
    """
    ids = [key_id(secret) for secret in settings.SIGNING_KEYS]
    told = AuditEntry.objects.filter(organization_id=None, act="signing_keys.changed").first()
    if told is None or told.facts.get("keys") != ids:
        trail.record("signing_keys.changed", facts={"keys": ids})
