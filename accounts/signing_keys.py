"""Signing-key rotation for JWTs: the first key signs, all listed keys verify.

simplejwt knows one key, so its backend is replaced here by one on PyJWT that writes the key's id
into the header (`kid`, RFC 7515) and reads it from there.
"""

import hashlib
import json
from functools import lru_cache
from typing import Any

import jwt
from django.conf import settings
from jwt.utils import base64url_decode
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenBackendError
from rest_framework_simplejwt.settings import api_settings


@lru_cache(maxsize=16)
def key_id(secret: str) -> str:
    """16 hexadecimal digits that identify the key without revealing it."""
    return hashlib.sha256(b"signing key id\0" + secret.encode()).hexdigest()[:16]


class KeyRingBackend(TokenBackend):
    """Signs with the first of settings.SIGNING_KEYS; verifies with the key that the token names.

    A token that names no accepted key is refused. Relies on simplejwt 5.5, backends.py: only
    encode() and get_verifying_key() use a key.
    """

    def __init__(self) -> None:
        super().__init__(
            api_settings.ALGORITHM,
            signing_key=settings.SIGNING_KEYS[0],
            audience=api_settings.AUDIENCE,
            issuer=api_settings.ISSUER,
            leeway=api_settings.LEEWAY,
        )

    def encode(self, payload: dict[str, Any]) -> str:
        """The signed token."""
        secret: str = settings.SIGNING_KEYS[0]
        claims = {**payload, "aud": self.audience, "iss": self.issuer}
        return jwt.encode(claims, secret, algorithm=self.algorithm, headers={"kid": key_id(secret)})

    def get_verifying_key(self, token: Any) -> Any:
        """The accepted key that the token's header names. Raises TokenBackendError."""
        # jwt.decode checks the whole header afterwards, with the key that it names.
        try:
            raw = token.encode() if isinstance(token, str) else token
            named = json.loads(base64url_decode(raw.partition(b".")[0]))["kid"]
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            raise TokenBackendError("Token is invalid") from error
        for secret in settings.SIGNING_KEYS:
            if named == key_id(secret):
                return secret
        raise TokenBackendError("Token is signed by no accepted key")
