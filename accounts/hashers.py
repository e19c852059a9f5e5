"""How passwords are hashed."""

from django.contrib.auth.hashers import Argon2PasswordHasher


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
