"""Job models in the master database, beside Procrastinate's own tables."""

from datetime import timedelta
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob

from organizations.naming import name_digests
from organizations.validators import MAX_NAME_LENGTH


class Job(ProcrastinateJob):
    """Procrastinate's row of a job, as the staff see it; Django writes none.

    told and organization_name: noted on it where it is shown.
    """

    told: "JobProgress | None" = None
    organization_name: str = ""

    class Meta:
        proxy = True
        verbose_name = "job"

    def __str__(self) -> str:
        return f"job {self.pk}: {self.task_name}"


class JobProgress(models.Model):
    """How far a job is, and why its last try failed. Written while it runs, in its own commits.

    job_id is no foreign key: Procrastinate's tables are its own. Nothing here is a secret.
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
    """Where the mail of a job goes, sealed: to an address that its user has no longer.

    Not among the job's arguments, which are logged. Deleted when the mail is sent.
    """

    job_id = models.BigIntegerField(primary_key=True)
    sealed_address = models.TextField(editable=False)

    class Meta:
        db_table = "sealed_addresses"

    def __str__(self) -> str:
        return f"address of job {self.job_id}"


class PendingSignUpQuerySet(models.QuerySet["PendingSignUp"]):
    """Sign-ups by what they still hold."""

    def open(self) -> "PendingSignUpQuerySet":
        """Those that reserve their name."""
        return self.filter(state__in=PendingSignUp.State.open())

    def expire(self) -> int:
        """Fail those of them that no worker has made in ORG_SIGNUP_EXPIRY_MINUTES; how many."""
        oldest = timezone.now() - timedelta(minutes=settings.ORG_SIGNUP_EXPIRY_MINUTES)
        detail = "No worker has made it in time. The name is free: sign up again."
        return self.filter(created_at__lt=oldest).end(
            state=PendingSignUp.State.FAILED, error={"detail": detail, "code": "sign_up_expired"}
        )

    def end(self, **facts: object) -> int:
        """End those that have not ended; how many. What was kept for them goes."""
        emptied = {"sealed_password_hash": "", "email": "", "base_url": ""}
        return self.open().update(**emptied, **facts, ended_at=timezone.now())

    def named(self, name: str) -> "PendingSignUpQuerySet":
        """By any spelling of the name."""
        return self.filter(name_digest__in=name_digests(name))


class PendingSignUp(models.Model):
    """A sign-up that was answered 202. While it is open nobody else gets the name.

    token_digest: SHA-256 of what the status URL ends with. sealed_password_hash: the password's
    hash, sealed; emptied by the statement that ends the sign-up. base_url: where the links of the
    first mail lead. organization_id is no foreign key: a deleted organization leaves its row.
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
    email = models.EmailField(max_length=254, blank=True)
    sealed_password_hash = models.TextField(editable=False, blank=True)
    base_url = models.TextField(blank=True)
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    step = models.CharField(max_length=20, blank=True)
    # The API's error, as status and body; empty unless it failed.
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
        """It is done; False where it had ended before. What was kept for it goes."""
        return self._end(state=self.State.DONE, organization_id=organization_id)

    def fail(self, *, detail: str, code: str) -> bool:
        """It will not be done; False where it had ended before. Its name is free again."""
        return self._end(state=self.State.FAILED, error={"detail": detail, "code": code})

    def _end(self, **facts: object) -> bool:
        return bool(PendingSignUp.objects.filter(pk=self.pk).end(**facts))
