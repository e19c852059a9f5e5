"""Models: backup runs, restores, erasure records."""

from typing import ClassVar

from django.db import models
from django.utils import timezone

from .installation import random_key


class BackupRun(models.Model):
    """A backup of one organization, from its start on: organizations/backups.

    organization_id is not a foreign key: a backup outlives the row. The manifest in the storage
    says what it holds; this row says whether it can be trusted.
    """

    class State(models.TextChoices):
        RUNNING = "running"
        GOOD = "good"
        FAILED = "failed"
        BAD = "bad"  # It was made, but a verification refused it.
        REMOVING = "removing"

    key = models.CharField(max_length=32, unique=True, default=random_key, editable=False)
    organization_id = models.BigIntegerField()
    organization_key = models.CharField(max_length=32)
    state = models.CharField(max_length=20, choices=State, default=State.RUNNING)
    started_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True)
    bytes = models.BigIntegerField(default=0)
    # The id of the key that encrypts it (backups/encryption.py); empty if not encrypted.
    encryption_key = models.CharField(max_length=100, blank=True, default="", db_default="")
    # In STORAGES["backups"]; empty: nothing of it is left there.
    folder = models.CharField(max_length=100, blank=True)
    # Of the run or of its last verification, without hosts, names of roles or secrets.
    error_code = models.CharField(max_length=50, blank=True)
    error = models.TextField(blank=True)
    verified_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "backup_runs"
        verbose_name = "backup"
        ordering = ("-started_at", "-id")
        indexes = (
            models.Index(
                fields=["organization_key", "-started_at"], name="backup_runs_organization"
            ),
        )

    def __str__(self) -> str:
        return f"{self.started_at:%Y-%m-%d %H:%M} {self.state}"


class Erasure(models.Model):
    """A record that an organization's database, role, files and credentials are gone.

    organization_id, organization_key: no foreign keys. deleted_at: when it was deleted, and closed
    to everybody. backups_until: when the last of its backups goes; empty: there were none.
    backups_gone_at: when that was done.
    """

    organization_id = models.BigIntegerField()
    organization_key = models.CharField(max_length=32, unique=True)
    deleted_at = models.DateTimeField()
    erased_at = models.DateTimeField(default=timezone.now)
    backups_until = models.DateTimeField(null=True)
    backups_gone_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "erasures"
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"organization {self.organization_id}, {self.erased_at:%Y-%m-%d %H:%M}"


class RestoreQuerySet(models.QuerySet["Restore"]):
    """Restores by what they keep."""

    def keeping(self) -> "RestoreQuerySet":
        """Those that keep something aside: a database, its role, files."""
        return self.exclude(kept_until=None)

    def switched(self) -> "RestoreQuerySet":
        """Those whose switch was committed."""
        unswitched = (Restore.State.RUNNING, Restore.State.FAILED)
        return self.exclude(state__in=unswitched).exclude(is_beside=True)

    def switching(self, organization_key: str) -> "RestoreQuerySet":
        """Those of this organization whose switch is committed and not finished."""
        state = Restore.State.SWITCHING
        return self.filter(organization_key=organization_key, state=state)


class Restore(models.Model):
    """One restore of an organization, and what it keeps aside: organizations/restoring.

    Until its switch is committed (`switching`) the old database serves, and nothing is kept. Then
    the row names the old database, which is kept until kept_until and has the identity `aside` with
    this row's key; its files are in a folder of that key. One that makes an organization beside it
    switches and keeps nothing. organization_id is not a foreign key: the row outlives the
    organization's.
    """

    class State(models.TextChoices):
        RUNNING = "running"
        SWITCHING = "switching"  # Committed, and not finished: the new database is not open yet.
        DONE = "done"
        UNDONE = "undone"  # Another one brought back what it kept.
        FAILED = "failed"  # Nothing was switched.

    key = models.CharField(max_length=32, unique=True, default=random_key, editable=False)
    organization_id = models.BigIntegerField()
    organization_key = models.CharField(max_length=32)
    state = models.CharField(max_length=20, choices=State, default=State.RUNNING)
    # It brought back what an earlier restore had kept.
    is_undo = models.BooleanField(default=False)
    # It made another organization, whose id this is once it is made; nothing was switched.
    is_beside = models.BooleanField(default=False, db_default=False)
    beside_id = models.BigIntegerField(null=True)
    # BackupRun.key, and the time of the restored data; empty if it was a dump from a file.
    backup = models.CharField(max_length=32, blank=True)
    backed_up_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True)
    # How many users change, by what changes. Only numbers: the master stores no users.
    users = models.JSONField(default=dict)
    error_code = models.CharField(max_length=50, blank=True)
    error = models.TextField(blank=True)
    # The folder with the files that come in with the switch; empty if the files stay.
    files = models.CharField(max_length=32, blank=True)
    # What is kept aside; empty: there was no database. Without kept_until nothing is kept any more.
    database_name = models.CharField(max_length=63, blank=True)
    role_name = models.CharField(max_length=63, blank=True)
    fingerprint = models.CharField(max_length=64, blank=True)
    kept_until = models.DateTimeField(null=True)

    objects: ClassVar = RestoreQuerySet.as_manager()

    class Meta:
        db_table = "restores"
        ordering = ("-id",)
        indexes = (models.Index(fields=["organization_key", "-id"], name="restores_organization"),)

    def __str__(self) -> str:
        return f"{self.started_at:%Y-%m-%d %H:%M} {self.state}"
