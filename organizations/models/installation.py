"""Models: this installation, its staff and servers."""

import secrets

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils import timezone


def random_key() -> str:
    """32 random hexadecimal digits. Unlike ids, never reused, even after a restore."""
    return secrets.token_hex(16)


class Installation(models.Model):
    """This installation, and the recorded location of its master database.

    One row. If the server or the database differs, this master is a copy, and changes nothing until
    `manage.py claim_installation` (postgres/installation.py).
    key: written into the identity of each role that this installation makes.
    """

    id = models.SmallIntegerField(primary_key=True, default=1)
    key = models.CharField(max_length=32, default=random_key)
    # From pg_control_system().
    system_identifier = models.BigIntegerField()
    # Of the master in pg_database.
    database_oid = models.BigIntegerField()
    claimed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "installation"
        constraints = (
            models.CheckConstraint(condition=models.Q(id=1), name="installation_one_row"),
        )

    def __str__(self) -> str:
        return f"claimed at {self.claimed_at:%Y-%m-%d %H:%M}"


class Staff(AbstractUser):
    """A person who runs the platform. Never a user of an organization: see accounts.User."""

    class Meta:
        db_table = "staff"
        verbose_name = verbose_name_plural = "staff"


class Server(models.Model):
    """A PostgreSQL server that holds organization databases.

    The row named `default` is the server of the master database.
    """

    DEFAULT = "default"

    name = models.CharField(max_length=63, unique=True)

    class Meta:
        db_table = "servers"

    def __str__(self) -> str:
        return self.name

    @classmethod
    def of_master(cls) -> "Server":
        """The server of the master database."""
        return cls.objects.get_or_create(name=cls.DEFAULT)[0]
