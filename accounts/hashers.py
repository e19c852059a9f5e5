"""Password hashers: Argon2id for new hashes, bcrypt to verify those of the first edition."""

import bcrypt
from django.contrib.auth.hashers import Argon2PasswordHasher, BCryptPasswordHasher

# What bcrypt looks at; it refuses more since its version 5, passlib used to cut.
_BCRYPT_BYTES = 72


class Argon2idHasher(Argon2PasswordHasher):
    """Argon2id with 19 MiB, two passes and one lane.

    The second of the equivalent settings in OWASP's Password Storage Cheat Sheet ("m=19456 (19
    MiB), t=2, p=1"). About 34 ms of one core where Django's default (100 MiB, t=2, p=8) takes 170
    ms on two cores and 270 ms of processor time. Hashes with other parameters still verify, and
    are renewed at the next login.
    """

    time_cost = 2
    memory_cost = 19456
    parallelism = 1


class BareBcryptHasher(BCryptPasswordHasher):
    """bcrypt as passlib stores it, which the first edition of this API used: `$2b$12$…`.

    Verifies alone, so that these people can log in; their hash becomes Argon2id when they do.
    """

    def verify(self, password: str, encoded: str) -> bool:
        """Whether it matches; a hash that cannot be read matches nothing."""
        try:
            _, data = encoded.split("$", 1)
            return bcrypt.checkpw(password.encode()[:_BCRYPT_BYTES], data.encode())
        except ValueError:
            return False

    def must_update(self, encoded: str) -> bool:
        """Always: only Argon2id stays."""
        return True

    def harden_runtime(self, password: str, encoded: str) -> None:
        """Nothing: a bcrypt hash takes longer than ours already."""


def readable(stored: str) -> str:
    """The stored hash as Django reads it, by the name of its hasher in front."""
    return f"bcrypt${stored}" if stored.startswith(("$2a$", "$2b$", "$2y$")) else stored
