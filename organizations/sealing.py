"""Encrypts and decrypts stored credentials (Fernet, CREDENTIAL_KEYS)."""

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

from .errors import CredentialUnreadable


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
