"""Password hashers: Argon2id for new hashes, bcrypt to verify those of the first edition."""

import bcrypt
from django.contrib.auth.hashers import Argon2PasswordHasher, BCryptPasswordHasher

# bcrypt uses only so many bytes. Since version 5 it refuses more; passlib used to truncate.
_BCRYPT_BYTES = 72


class Argon2idHasher(Argon2PasswordHasher):
    """Argon2id with 19 MiB, two passes and one lane.

    The second of the equivalent settings in OWASP's Password Storage Cheat Sheet ("m=19456 (19
    MiB), t=2, p=1"). Takes about 34 ms of one core; Django's default (100 MiB, t=2, p=8) takes 170
    ms on two cores, 270 ms of CPU time. Hashes with other parameters still verify, and are renewed
    at the next login.
    """

    time_cost = 2
    memory_cost = 19456
    parallelism = 1


class BareBcryptHasher(BCryptPasswordHasher):
    """bcrypt as stored by passlib, used by the first edition of this API: `$2b$12$…`.

    Only verifies, so that these users can log in; then their hash becomes Argon2id.
    """

    def verify(self, password: str, encoded: str) -> bool:
        """Whether it matches; an invalid hash matches nothing."""
        try:
            _, data = encoded.split("$", 1)
            return bcrypt.checkpw(password.encode()[:_BCRYPT_BYTES], data.encode())
        except ValueError:
            return False

    def must_update(self, encoded: str) -> bool:
        """Always True: replaced by Argon2id."""
        return True

    def harden_runtime(self, password: str, encoded: str) -> None:
        """Does nothing: bcrypt already takes longer than our hash."""


def readable(stored: str) -> str:
    """The stored hash with the hasher's name in front, as Django needs it."""
    return f"bcrypt${stored}" if stored.startswith(("$2a$", "$2b$", "$2y$")) else stored
