"""Job models in the master database, beside Procrastinate's own tables."""

from datetime import timedelta
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob

from accounts.models import MAX_EMAIL_LENGTH
from organizations.naming import name_digests
from organizations.tenancy.tenant import MAX_NAME_LENGTH


class Job(ProcrastinateJob):
    """Procrastinate's row of a job, read-only for Django, as staff see it.

    told and organization_name: set on it for display.
    """

    told: "JobProgress | None" = None
    organization_name: str = ""

    class Meta:
        proxy = True
        verbose_name = "job"

    def __str__(self) -> str:
        return f"job {self.pk}: {self.task_name}"


class JobProgress(models.Model):
    """A job's progress, and why its last try failed. Written while it runs, in separate commits.

    job_id is not a foreign key, since Procrastinate owns its tables. Holds no secrets.
    """

    job_id = models.BigIntegerField(primary_key=True)
    organization_id = models.BigIntegerField(null=True, db_index=True)
    step = models.CharField(max_length=100, blank=True)
    done = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField(null=True)
    error = models.TextField(blank=True)
    updated_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "job_progress"

    def __str__(self) -> str:
        return f"job {self.job_id}: {self.step}"


class SealedAddress(models.Model):
    """The encrypted recipient of a mail job whose user no longer has that address.

    Not among the job's arguments, which are logged. Deleted when the mail is sent.
    """

    job_id = models.BigIntegerField(primary_key=True)
    sealed_address = models.TextField(editable=False)

    class Meta:
        db_table = "sealed_addresses"

    def __str__(self) -> str:
        return f"address of job {self.job_id}"


class PendingSignUpQuerySet(models.QuerySet["PendingSignUp"]):
    """Sign-ups by state and name."""

    def open(self) -> "PendingSignUpQuerySet":
        """Those that still reserve their name."""
        return self.filter(state__in=PendingSignUp.State.open())

    def expire(self) -> int:
        """Fail those that no worker completed in ORG_SIGNUP_EXPIRY_MINUTES. Returns how many."""
        oldest = timezone.now() - timedelta(minutes=settings.ORG_SIGNUP_EXPIRY_MINUTES)
        detail = "The sign-up was not processed in time. The name is free: sign up again."
        return self.filter(created_at__lt=oldest).end(
            state=PendingSignUp.State.FAILED, error={"detail": detail, "code": "sign_up_expired"}
        )

    def end(self, **facts: object) -> int:
        """End those that have not ended, and delete their secrets. Returns how many."""
        emptied = {"sealed_password_hash": "", "email": "", "base_url": ""}
        return self.open().update(**emptied, **facts, ended_at=timezone.now())

    def named(self, name: str) -> "PendingSignUpQuerySet":
        """By any spelling of the name."""
        return self.filter(name_digest__in=name_digests(name))


class PendingSignUp(models.Model):
    """A sign-up that was answered 202. While it is open nobody else gets the name.

    token_digest: SHA-256 of the status URL's token. sealed_password_hash: encrypted; emptied by the
    statement that ends the sign-up. base_url: of the links in the first mail. organization_id is
    not a foreign key: the row outlives a deleted organization.
    """

    class State(models.TextChoices):
        WAITING = "waiting"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"

        @classmethod
        def open(cls) -> tuple["PendingSignUp.State", ...]:
            return (cls.WAITING, cls.RUNNING)

    token_digest = models.CharField(max_length=64, unique=True, editable=False)
    name = models.CharField(max_length=MAX_NAME_LENGTH)
    name_digest = models.CharField(max_length=64, editable=False)
    email = models.EmailField(max_length=MAX_EMAIL_LENGTH, blank=True)
    sealed_password_hash = models.TextField(editable=False, blank=True)
    base_url = models.TextField(blank=True)
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    step = models.CharField(max_length=20, blank=True)
    # The API error; empty unless it failed.
    error = models.JSONField(default=dict, blank=True)
    job_id = models.BigIntegerField(null=True)
    organization_id = models.BigIntegerField(null=True)
    created_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True)

    objects: ClassVar = PendingSignUpQuerySet.as_manager()

    class Meta:
        db_table = "pending_sign_ups"
        constraints = (
            models.UniqueConstraint(
                fields=["name_digest"],
                condition=models.Q(state__in=("waiting", "running")),
                name="pending_sign_ups_one_open",
            ),
        )

    def __str__(self) -> str:
        return f"{self.name}: {self.state}"

    def finish(self, organization_id: int) -> bool:
        """Mark it done and delete its secrets; False if it had already ended."""
        return self._end(state=self.State.DONE, organization_id=organization_id)

    def fail(self, *, detail: str, code: str) -> bool:
        """Mark it failed and free its name; False if it had already ended."""
        return self._end(state=self.State.FAILED, error={"detail": detail, "code": code})

    def _end(self, **facts: object) -> bool:
        return bool(PendingSignUp.objects.filter(pk=self.pk).end(**facts))
