"""Models: audit entries, idempotency records, rate-limit counters."""

from datetime import timedelta
from typing import ClassVar

from django.db import models
from django.db.models.functions import Now
from django.utils import timezone


class AuditEntry(models.Model):
    """An entry of the audit trail, written by organizations/audit. The database refuses changes.

    act: the event's name; stored data and the API keep that word. organization_id is not a foreign
    key: an entry outlives the row. Persons are identified by primary key and by a hash under their
    organization's key, never by name or address.
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


class StoredAnswerQuerySet(models.QuerySet["StoredAnswer"]):
    """Stored answers by age and organization."""

    def expired(self) -> "StoredAnswerQuerySet":
        """Those whose key may be used for another act."""
        return self.filter(began_at__lt=timezone.now() - StoredAnswer.KEPT)

    def forget(self, organization_id: int) -> int:
        """Delete the bodies about a deleted organization. Its keys stay used."""
        return self.filter(organization_id=organization_id).update(status=404, body=None)


class StoredAnswer(models.Model):
    """A staff act that was sent with an Idempotency-Key, and its answer (api/idempotency.py).

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
