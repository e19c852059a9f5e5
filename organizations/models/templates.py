"""Models: migrations' fingerprints, templates, spare databases."""

from django.db import models
from django.utils import timezone

from organizations.tenancy import Place

from .installation import Server, random_key


class SchemaVersion(models.Model):
    """The migrations of a database with this fingerprint: a sorted list of `app.name`.

    Written when the fingerprint is first seen, and never changed.
    """

    fingerprint = models.CharField(max_length=64, primary_key=True)
    migrations = models.JSONField()
    seen_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "schema_versions"

    def __str__(self) -> str:
        return self.fingerprint


class Template(models.Model):
    """A database with the tenant apps' tables that new ones are copied from. Without rows, except
    those that a migration declares the same for every organization.

    The application's role owns it and nobody may connect to it. role_name: owner of its tables; it
    cannot log in. fingerprint: of the migrations that made them (provisioning/code.py). One that is
    not ready is being built, was interrupted, or was found broken.
    """

    server = models.ForeignKey(Server, on_delete=models.PROTECT, related_name="templates")
    key = models.CharField(max_length=32, unique=True, default=random_key, editable=False)
    fingerprint = models.CharField(max_length=64)
    database_name = models.CharField(max_length=63, unique=True)
    role_name = models.CharField(max_length=63, unique=True)
    ready = models.BooleanField(default=False)
    built_at = models.DateTimeField(default=timezone.now)
    # Accurate to the hour. A template of other code is dropped when unused for a day.
    used_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "templates"
        constraints = (
            models.UniqueConstraint(
                fields=["server", "fingerprint"],
                condition=models.Q(ready=True),
                name="templates_one_ready",
            ),
        )

    def __str__(self) -> str:
        return self.database_name


class UncopyableSchema(models.Model):
    """A fingerprint that is not copied, since a copy would differ from what the migrations make.

    obstacles: what a copy would lose or share (provisioning/obstacles.py). Found once; fixed code
    has another fingerprint.
    """

    fingerprint = models.CharField(max_length=64, primary_key=True)
    obstacles = models.JSONField()
    found_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "uncopyable_schemas"

    def __str__(self) -> str:
        return self.fingerprint


class SpareDatabase(models.Model):
    """A database with role and tables, ready for an organization.

    The row exists before the database; a sign-up that takes it deletes the row.
    """

    server = models.ForeignKey(Server, on_delete=models.PROTECT, related_name="spare_databases")
    # For the organization that takes it.
    key = models.CharField(max_length=32, unique=True, default=random_key, editable=False)
    database_name = models.CharField(max_length=63, unique=True)
    role_name = models.CharField(max_length=63, unique=True)
    sealed_password = models.TextField(editable=False)
    fingerprint = models.CharField(max_length=64)
    ready = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "spare_databases"

    def __str__(self) -> str:
        return self.database_name

    @property
    def place(self) -> Place:
        """Where it is, and its role."""
        return Place(self.database_name, self.role_name, self.sealed_password)
