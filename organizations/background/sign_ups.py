"""Asynchronous sign-up: reserves the name at once, provisions in a worker.

The password is hashed while the request waits. The hash is kept sealed in the sign-up's row, never
among a job's arguments, and is deleted when the sign-up ends.
"""

import hashlib
import logging
import secrets

from django.db import IntegrityError
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.exceptions import JobAborted

from accounts import mails
from accounts.services import hash_password
from organizations import lifecycle
from organizations.background import enqueueing
from organizations.errors import (
    FOR_OPERATORS,
    OUR_FAULT,
    OrganizationError,
    OrganizationExists,
    SignUpUnknown,
)
from organizations.jobs.frame import Progress
from organizations.jobs.models import PendingSignUp
from organizations.jobs.retries import pause_seconds
from organizations.models import Organization
from organizations.naming import name_digest
from organizations.naming import name_key as key_of
from organizations.postgres.sessions import open_session
from organizations.secrets import seal, unseal
from organizations.tenancy.constraints import broken_unique
from organizations.validators import SignUp

logger = logging.getLogger(__name__)

_TOKEN_BYTES = 32


def accept(sign_up: SignUp, *, base_url: str) -> str:
    """Reserve the name and enqueue the sign-up; returns the status URL's token, stored only hashed.

    base_url: of the links in the first mail. Raises as lifecycle.check_sign_up does, and
    ServerUnavailable.
    """
    sign_up = lifecycle.check_sign_up(sign_up)
    name = sign_up.name
    sealed, token = seal(hash_password(sign_up.password)), secrets.token_urlsafe(_TOKEN_BYTES)
    with open_session() as session:
        # As in lifecycle.py: only the holder of this lock creates, deletes or cleans up this name.
        if not session.try_lock(key_of(name)):
            raise OrganizationExists(name)
        if Organization.objects.taken().known_as(name).exists():
            raise OrganizationExists(name)
        PendingSignUp.objects.named(name).expire()
        try:
            with enqueueing.in_master():
                pending = PendingSignUp.objects.create(
                    token_digest=_digest(token),
                    name=name,
                    name_digest=name_digest(name),
                    email=sign_up.email,
                    sealed_password_hash=sealed,
                    base_url=base_url,
                )
                lock = f"name:{pending.name_digest}"
                pending.job_id = (
                    app.tasks["sign_up"].configure(lock=lock).defer(sign_up_id=pending.pk)
                )
                pending.save(update_fields=["job_id"])
        except IntegrityError as error:
            if broken_unique(error) != "pending_sign_ups_one_open":
                raise
            raise OrganizationExists(name) from error
    logger.info("sign-up accepted", extra={"sign_up": pending.pk, "job": pending.job_id})
    return token


def find(token: str) -> PendingSignUp:
    """The sign-up with this status token. Raises SignUpUnknown."""
    rows = PendingSignUp.objects.filter(token_digest=_digest(token))
    try:
        found: PendingSignUp = rows.get()
    except PendingSignUp.DoesNotExist as error:
        raise SignUpUnknown from error
    if found.state in PendingSignUp.State.open() and rows.expire():
        found.refresh_from_db()
    return found


def carry_out(sign_up_id: int, progress: Progress) -> None:
    """The worker's part. Raises errors that fail or retry the job; after the last try the sign-up
    has failed and its name is free."""
    PendingSignUp.objects.filter(pk=sign_up_id).expire()
    pending = PendingSignUp.objects.open().filter(pk=sign_up_id).first()
    if pending is None:
        return  # Expired, or an earlier try succeeded and its worker died before saying so.

    try:
        progress.stop_if_asked()
        rows = PendingSignUp.objects.open().filter(pk=pending.pk)
        rows.update(state=PendingSignUp.State.RUNNING, step="lock")
        password_hash = unseal(pending.sealed_password_hash, owner=pending.name)
        created = lifecycle.create_reserved_organization(pending, password_hash=password_hash)
    except Exception as error:
        stopped = isinstance(error, JobAborted)
        if not stopped and pause_seconds(error, attempts=progress.attempts) is None:
            fail(pending, error)
        raise
    if created is not None:
        mails.verify_first_admin(
            pending.base_url, organization_id=created.organization.pk, email=pending.email
        )


def fail(pending: PendingSignUp, error: BaseException) -> None:
    """Mark it failed for good, with an error message that strangers may read."""
    if isinstance(error, OrganizationError) and not isinstance(error, FOR_OPERATORS):
        pending.fail(detail=str(error), code=error.code)
        return
    code = error.code if isinstance(error, OrganizationError) else "provisioning_failed"
    pending.fail(detail=OUR_FAULT, code=code)


def give_up(job_id: int, *, detail: str, code: str) -> None:
    """Fail the sign-up of a job that ended without reporting, if the job is a sign-up's."""
    for pending in PendingSignUp.objects.open().filter(job_id=job_id):
        pending.fail(detail=detail, code=code)


def give_up_abandoned() -> None:
    """Fail sign-ups whose job ended without reporting (the master was down), and those that have
    waited too long. Their names are free again."""
    PendingSignUp.objects.all().expire()
    at_work = ProcrastinateJob.objects.filter(status__in=("todo", "doing"), task_name="sign_up")
    for pending in PendingSignUp.objects.open().exclude(job_id__in=at_work.values("pk")):
        pending.fail(detail=OUR_FAULT, code="provisioning_failed")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
