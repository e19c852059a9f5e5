"""The organizations, and the names that they had."""

import hashlib
from typing import ClassVar

from django.db import models
from django.utils import timezone

from accounts.models import MAX_EMAIL_LENGTH
from organizations.errors import WrongState
from organizations.naming import name_digests
from organizations.tenancy import Place, Tenant
from organizations.tenancy.tenant import MAX_NAME_LENGTH
from organizations.validators import MAX_MESSAGE_LENGTH

from .installation import Server, random_key


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

    def closed(self) -> "OrganizationQuerySet":
        """Those whose database is aside: deleted ones, and those that are being archived."""
        status = Organization.Status
        return self.filter(status__in=(status.TRASHED, status.ARCHIVING))

    def taken(self) -> "OrganizationQuerySet":
        """Those whose name nobody else gets: usable ones, and those that can come back."""
        return self.filter(status__in=Organization.Status.taken())

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


class Organization(models.Model):
    """A customer: its name, and where its database is.

    Written by lifecycle.py, through provisioning/, by recovery/ and by first_edition/. Two more
    write single columns: secrets.py the audit key, migrating/records.py the migration record.
    """

    class Status(models.TextChoices):
        PROVISIONING = "provisioning"
        ACTIVE = "active"
        SUSPENDED = "suspended"
        ARCHIVING = "archiving"  # Closed, and aside until its last backup is verified.
        ARCHIVED = "archived"  # Only that backup is left of its database and files.
        TRASHED = "trashed"  # Deleted, and kept aside until kept_until.
        DELETING = "deleting"
        DELETED = "deleted"
        FAILED = "failed"

        @classmethod
        def usable(cls) -> tuple["Organization.Status", ...]:
            return (cls.ACTIVE, cls.SUSPENDED)

        @classmethod
        def archival(cls) -> tuple["Organization.Status", ...]:
            return (cls.ARCHIVING, cls.ARCHIVED)

        @classmethod
        def taken(cls) -> tuple["Organization.Status", ...]:
            return (*cls.usable(), *cls.archival(), cls.TRASHED)

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
    # Since it was archived: the verified backup that it is thawed from, which nothing removes, and
    # what it comes back as. Until that is verified there is none.
    archived_backup = models.ForeignKey(
        "BackupRun", on_delete=models.PROTECT, null=True, editable=False, related_name="+"
    )
    archived_from = models.CharField(
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
            + ("backup", "verify", "export", "archive", "thaw")
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


# The organizations that a request can name, in raw SQL.
_STATUSES = (*Organization.Status.usable(), *Organization.Status.archival())
IS_KNOWN = "status IN ('" + "', '".join(_STATUSES) + "')"
# `known_as` in raw SQL, for frequent look-ups: the ORM takes longer to build it than the server to
# answer.
KNOWN_AS = (
    "(name_digest IN (%(own)s, %(older)s) OR id = ANY (ARRAY("  # noqa: S608 - constants
    "SELECT organization_id FROM former_names WHERE digest IN (%(own)s, %(older)s) "
    "AND held_until > now()))) AND " + IS_KNOWN + " "
    "ORDER BY name_digest = %(own)s DESC, id IN ("
    "SELECT organization_id FROM former_names WHERE digest = %(own)s AND held_until > now()) DESC, "
    "name_digest = %(older)s DESC, id LIMIT 1"
)


def known_as_parameters(name: str) -> dict[str, str]:
    """What KNOWN_AS takes."""
    own, *older = name_digests(name)
    return {"own": own, "older": older[0] if older else own}


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
