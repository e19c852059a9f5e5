"""Models of the master database: organizations, servers, staff, templates, audit trail and more."""

import hashlib
import secrets
from datetime import timedelta
from typing import ClassVar

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from accounts.models import MAX_EMAIL_LENGTH

from .errors import WrongState
from .naming import name_digests
from .tenancy import Place, Tenant
from .tenancy.tenant import MAX_NAME_LENGTH
from .validators import MAX_MESSAGE_LENGTH


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


class OrganizationQuerySet(models.QuerySet["Organization"]):
    """Organizations by state and name."""

    def usable(self) -> "OrganizationQuerySet":
        """Those that exist for the outside: active and suspended."""
        return self.filter(status__in=Organization.Status.usable())

    def reachable(self) -> "OrganizationQuerySet":
        """Usable ones whose database is this installation's (claim_installation --new)."""
        return self.usable().exclude(sealed_password="")

    def live(self) -> "OrganizationQuerySet":
        """Those whose name is taken: all except tombstones."""
        return self.exclude(status=Organization.Status.DELETED)

    def writable(self) -> "OrganizationQuerySet":
        """Ordinary ones: all except those that were restored beside another one."""
        return self.filter(read_only_until=None)

    def trashed(self) -> "OrganizationQuerySet":
        """Deleted ones that can still come back."""
        return self.filter(status=Organization.Status.TRASHED)

    def taken(self) -> "OrganizationQuerySet":
        """Those whose name nobody else gets: usable ones, and those that can come back."""
        return self.filter(status__in=(*Organization.Status.usable(), Organization.Status.TRASHED))

    def unfinished(self) -> "OrganizationQuerySet":
        """Those that reconcile_orgs handles."""
        status = Organization.Status
        return self.filter(status__in=(status.PROVISIONING, status.FAILED, status.DELETING))

    def named(self, name: str) -> "OrganizationQuerySet":
        """By any spelling of the name; of two, the exact spelling first."""
        digests = name_digests(name)
        found = self.filter(name_digest__in=digests)
        if len(digests) == 1:
            return found
        is_own = models.Case(models.When(name_digest=digests[0], then=0), default=1)
        return found.order_by(is_own, "pk")

    def known_as(self, name: str) -> "OrganizationQuerySet":
        """The same, or by a name that it had until lately. For each digest, first the one that has
        it now, then the one that had it."""
        digests = name_digests(name)
        held = FormerName.objects.held()
        former = held.filter(digest__in=digests).values("organization_id")
        now = Organization.objects.live().filter(name_digest__in=digests).values("pk")
        # An OR with a subquery would read the whole table.
        found = self.filter(pk__in=now.union(former, all=True))
        had_own = models.Q(pk__in=held.filter(digest=digests[0]).values("organization_id"))
        ranks = (models.Q(name_digest=digests[0]), had_own, models.Q(name_digest=digests[-1]))
        whens = [models.When(rank, then=number) for number, rank in enumerate(ranks)]
        return found.order_by(models.Case(*whens, default=len(ranks)), "pk")


# `known_as` in raw SQL, for frequent look-ups: the ORM takes longer to build it than the server to
# answer.
KNOWN_AS = (
    "(name_digest IN (%(own)s, %(older)s) OR id = ANY (ARRAY("
    "SELECT organization_id FROM former_names WHERE digest IN (%(own)s, %(older)s) "
    "AND held_until > now()))) AND status IN ('active', 'suspended') "
    "ORDER BY name_digest = %(own)s DESC, id IN ("
    "SELECT organization_id FROM former_names WHERE digest = %(own)s AND held_until > now()) DESC, "
    "name_digest = %(older)s DESC, id LIMIT 1"
)


def known_as_parameters(name: str) -> dict[str, str]:
    """What KNOWN_AS takes."""
    own, *older = name_digests(name)
    return {"own": own, "older": older[0] if older else own}


class Organization(models.Model):
    """A customer: its name, and where its database is.

    Written by lifecycle.py, through provisioning/, by recovery/ and by first_edition/. Two more
    write single columns: secrets.py the audit key, migrating/records.py the migration record.
    """

    class Status(models.TextChoices):
        PROVISIONING = "provisioning"
        ACTIVE = "active"
        SUSPENDED = "suspended"
        TRASHED = "trashed"  # Deleted, and kept aside until kept_until.
        DELETING = "deleting"
        DELETED = "deleted"
        FAILED = "failed"

        @classmethod
        def usable(cls) -> tuple["Organization.Status", ...]:
            return (cls.ACTIVE, cls.SUSPENDED)

    class Step(models.TextChoices):
        """How far provisioning has come; each step can be repeated."""

        NOTHING = "nothing"
        ROLE = "role"
        DATABASE = "database"
        SCHEMA = "schema"
        ADMIN = "admin"

    # Never reused: identifies files, cache keys and the role.
    key = models.CharField(max_length=32, unique=True, default=random_key, editable=False)
    name = models.CharField(max_length=MAX_NAME_LENGTH)
    # SHA-256 of the name key, unique. The key itself can be too long for an index entry.
    name_digest = models.CharField(max_length=64, editable=False)
    slug = models.CharField(max_length=50)
    admin_email = models.EmailField(max_length=MAX_EMAIL_LENGTH)
    created_at = models.DateTimeField(default=timezone.now)
    status = models.CharField(max_length=20, choices=Status, default=Status.PROVISIONING)
    # For staff.
    status_reason = models.TextField(blank=True)
    # For the organization's people, while it is suspended.
    status_message = models.CharField(
        max_length=MAX_MESSAGE_LENGTH, blank=True, default="", db_default=""
    )
    status_changed_at = models.DateTimeField(default=timezone.now)
    provisioned = models.CharField(max_length=20, choices=Step, default=Step.NOTHING)
    # The id of the last deletion, as in the role's identity; empty if there was none.
    deletion = models.CharField(max_length=32, blank=True, default="", editable=False)
    # Since it was deleted: when it is dropped, and what it comes back as. They stay until nothing
    # of it is left.
    kept_until = models.DateTimeField(null=True, editable=False)
    status_before = models.CharField(
        max_length=20, blank=True, default="", db_default="", editable=False
    )
    # The id of the organization that it is a clone of; a clone sends no mail. No foreign key: it
    # stays a clone when that one's row is gone.
    cloned_from = models.BigIntegerField(null=True, editable=False)
    # It was restored beside another one, is read-only, and is dropped then; null: an ordinary one.
    read_only_until = models.DateTimeField(null=True, editable=False)
    server = models.ForeignKey(Server, on_delete=models.PROTECT, related_name="organizations")
    # Generated once and never derived again: renaming the organization moves nothing.
    database_name = models.CharField(max_length=63)
    role_name = models.CharField(max_length=63, unique=True)
    sealed_password = models.TextField(editable=False)
    # The audit trail's hash key for this organization's addresses; destroyed with it.
    sealed_audit_key = models.TextField(editable=False, blank=True)
    # Set with each change of status, place or schema that requests must notice at once, until the
    # sessions from before have ended: postgres/fence.py.
    pending_fence = models.TextField(blank=True, default="", db_default="", editable=False)
    # Of its database's migrations (a SchemaVersion); empty: unknown.
    fingerprint = models.CharField(max_length=64, blank=True, default="", editable=False)
    # Tries since the last success, including a running one; when that success ended; the last
    # try's error, and its seconds.
    migration_attempts = models.PositiveIntegerField(default=0, editable=False)
    migration_error = models.TextField(blank=True, default="", editable=False)
    migrated_at = models.DateTimeField(null=True, editable=False)
    migration_seconds = models.FloatField(null=True, editable=False)
    # The row of a FastAPI edition's master that it was taken over from: first_edition/source.py.
    adopted_from = models.CharField(
        max_length=64, blank=True, default="", db_default="", editable=False
    )

    objects: ClassVar = OrganizationQuerySet.as_manager()

    class Meta:
        db_table = "organizations"
        ordering = ("id",)
        # One for each act of staff, by REST and in the admin.
        permissions = tuple(
            (f"{act}_organization", f"Can {act} organization")
            for act in ("suspend", "resume", "rename", "restore", "clone", "undelete")
            + ("backup", "verify", "export")
        )
        indexes = (
            models.Index(
                fields=["id"],
                condition=~models.Q(pending_fence=""),
                name="organizations_pending_fence",
            ),
        )
        constraints = tuple(
            models.UniqueConstraint(
                fields=[field],
                condition=~models.Q(status="deleted"),
                name=f"organizations_{field}_live",
            )
            for field in ("name_digest", "slug", "database_name")
        ) + (
            models.UniqueConstraint(
                fields=["adopted_from"],
                condition=~models.Q(status="deleted") & ~models.Q(adopted_from=""),
                name="organizations_adopted_from_live",
            ),
        )

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<Organization {self.pk} {self.slug} {self.status}>"

    @property
    def tenant(self) -> Tenant:
        """What tenancy.override() takes."""
        return Tenant(organization_id=self.pk, slug=self.slug, key=self.key)

    @property
    def place(self) -> Place:
        """Where its database is, by this row."""
        is_read_only = self.read_only_until is not None
        return Place(self.database_name, self.role_name, self.sealed_password, is_read_only)

    @property
    def is_usable(self) -> bool:
        return self.status in self.Status.usable()

    def require_usable(self) -> None:
        """Raise WrongState unless it is active or suspended."""
        if not self.is_usable:
            raise WrongState(self.name, status=self.status, wanted="active or suspended")

    def require_writable(self) -> None:
        """Raise WrongState if it was restored beside another one."""
        if self.read_only_until is not None:
            raise WrongState(self.name, status="read-only", wanted="an ordinary organization")

    @property
    def digest_without_name(self) -> str:
        """Its name_digest once its name is free for others. No name has it."""
        return hashlib.sha256(f"\x00{self.key}".encode()).hexdigest()

    @property
    def is_clone(self) -> bool:
        return self.cloned_from is not None


class FormerNameQuerySet(models.QuerySet["FormerName"]):
    """Former names by whether they are still held."""

    def held(self) -> "FormerNameQuerySet":
        """Those that still lead to their organization. Earlier code deletes it and leaves them."""
        held = self.filter(held_until__gt=timezone.now())
        return held.exclude(organization__status=Organization.Status.DELETED)


class FormerName(models.Model):
    """A name that an organization had before it was renamed.

    Until held_until it leads to the organization, and nobody else gets it. digest: as
    Organization.name_digest. An organization that has the name now comes first.
    """

    digest = models.CharField(max_length=64, primary_key=True)
    slug = models.CharField(max_length=50)
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="former_names"
    )
    held_until = models.DateTimeField()

    objects: ClassVar = FormerNameQuerySet.as_manager()

    class Meta:
        db_table = "former_names"

    def __str__(self) -> str:
        return self.slug


class StoredAnswerQuerySet(models.QuerySet["StoredAnswer"]):
    """Stored answers by age and organization."""

    def expired(self) -> "StoredAnswerQuerySet":
        """Those whose key may be used for another act."""
        return self.filter(began_at__lt=timezone.now() - StoredAnswer.KEPT)

    def forget(self, organization_id: int) -> int:
        """Delete the bodies about a deleted organization. Its keys stay used."""
        return self.filter(organization_id=organization_id).update(status=404, body=None)


class StoredAnswer(models.Model):
    """A staff's act that was sent with an Idempotency-Key, and its answer (api/idempotency.py).

    Written in the act's commit. digest: of the staff and the key. request_digest: of the path and
    the body, salted with the key. status, body: empty until it was answered; 404 and no body once
    the organization was deleted, whose address a body has. organization_id: no foreign key.
    """

    # What api/idempotency.py promises.
    KEPT: ClassVar = timedelta(hours=24)

    digest = models.CharField(max_length=64, primary_key=True)
    request_digest = models.CharField(max_length=64)
    organization_id = models.BigIntegerField(null=True)
    status = models.PositiveSmallIntegerField(null=True)
    body = models.JSONField(null=True)
    began_at = models.DateTimeField(default=timezone.now)

    objects: ClassVar = StoredAnswerQuerySet.as_manager()

    class Meta:
        db_table = "stored_answers"

    def __str__(self) -> str:
        return f"{self.status or 'not answered'}"


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


class BackupRun(models.Model):
    """A backup of one organization, from its beginning on: organizations/backups.

    organization_id is not a foreign key: a backup outlives the row. The manifest in the storage
    says what it holds; this row says whether it can be trusted.
    """

    class State(models.TextChoices):
        RUNNING = "running"
        GOOD = "good"
        FAILED = "failed"
        BAD = "bad"  # It was made, and a verification refused it.
        REMOVING = "removing"

    key = models.CharField(max_length=32, unique=True, default=random_key, editable=False)
    organization_id = models.BigIntegerField()
    organization_key = models.CharField(max_length=32)
    state = models.CharField(max_length=20, choices=State, default=State.RUNNING)
    started_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True)
    bytes = models.BigIntegerField(default=0)
    # The id of the key that it is encrypted with (backups/encryption.py); empty if with none.
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
    # BackupRun.key, and the moment to which it goes back; empty if it was a dump from a file.
    backup = models.CharField(max_length=32, blank=True)
    backed_up_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True)
    # How many users change, by what goes back. Numbers: the master knows nobody.
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


class AuditEntry(models.Model):
    """An entry of the audit trail, written by organizations/audit. The database refuses changes.

    organization_id is not a foreign key: an entry outlives the row. Persons are identified by
    primary key and by a hash under their organization's key, never by name or address.
    """

    at = models.DateTimeField(default=timezone.now, db_default=Now())
    act = models.CharField(max_length=50)
    organization_id = models.BigIntegerField(null=True)
    actor = models.CharField(max_length=10)
    actor_id = models.BigIntegerField(null=True)
    user_id = models.BigIntegerField(null=True)
    person = models.CharField(max_length=64, blank=True)
    address = models.GenericIPAddressField(null=True)
    request_id = models.CharField(max_length=64, blank=True)
    facts = models.JSONField(default=dict)

    class Meta:
        db_table = "audit_entries"
        ordering = ("-id",)
        verbose_name = "audit entry"
        verbose_name_plural = "audit trail"
        indexes = (
            models.Index(fields=["organization_id", "-id"], name="audit_entries_organization"),
            models.Index(fields=["at"], name="audit_entries_at"),
        )

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.act}"


class ThrottleCounter(models.Model):
    """A rate-limit counter for a time window. Its key is a hash, so it names nobody."""

    key = models.CharField(max_length=64, primary_key=True)
    count = models.BigIntegerField()
    expires_at = models.DateTimeField()

    class Meta:
        db_table = "throttle_counters"
        indexes = (models.Index(fields=["expires_at"], name="throttle_counters_expires"),)

    def __str__(self) -> str:
        return self.key
