"""The background jobs and their schedules. Each can be repeated: a worker can die at any point.

Procrastinate imports this module once Django is ready (contrib/django/apps.py, get_import_paths).
"""

from functools import partial
from typing import Any

from procrastinate.contrib.django import app

from accounts.expiry import prune_sessions
from organizations.errors import OtherCode
from organizations.models import Organization
from organizations.provisioning import code, refill

from . import lifecycle
from .background import enqueueing, mails, pruning, sign_ups
from .background.migrating import migrate
from .jobs.frame import Progress, organization_job, platform_job
from .jobs.retries import Backoff, Patience
from .postgres.sessions import open_session
from .secrets import note_signing_keys

SIGN_UPS, MAILS, MIGRATIONS, UPKEEP = "sign-ups", "mails", "migrations", "upkeep"
QUEUES = (SIGN_UPS, MAILS, MIGRATIONS, UPKEEP)


@app.task(name="sign_up", queue=SIGN_UPS, priority=10, retry=Backoff(), pass_context=True)
@platform_job
def sign_up(progress: Progress, *, sign_up_id: int) -> None:
    """Create the organization of a sign-up that was answered 202."""
    sign_ups.carry_out(sign_up_id, progress)


# Without the lock: mails and other jobs of the organization do not wait for each other.
@app.task(name="send_mail", queue=MAILS, priority=5, retry=Patience(), pass_context=True)
@partial(organization_job, exclusive=False)
def send_mail(organization: Organization, progress: Progress, **facts: Any) -> None:
    """Send an ordered mail, if it is still wanted."""
    progress.tell("sending")
    mails.send(organization, progress.job_id, **facts)


@app.task(name="migrate_organization", queue=MIGRATIONS, retry=Backoff(), pass_context=True)
@organization_job
def migrate_organization(
    organization: Organization,
    progress: Progress,
    *,
    label: str | None = None,
    name: str | None = None,
    fingerprint: str = "",
) -> None:
    """Migrate one organization's database; to the code's newest migrations by default."""
    progress.tell("migrating")
    migrate(organization, label=label, name=name, fingerprint=fingerprint)


@app.task(name="clean_up_organization", queue=UPKEEP, retry=Backoff(), pass_context=True)
@organization_job
def clean_up_organization(organization: Organization, progress: Progress) -> None:
    """Delete expired rows in one organization's database."""
    progress.tell("deleting expired logins")
    prune_sessions(goes_on=progress.goes_on)
    progress.stop_if_asked()


@app.task(
    name="refill_spares",
    queue=UPKEEP,
    retry=Backoff(),
    pass_context=True,
)
@platform_job
def refill_spares(progress: Progress, *, fingerprint: str = "") -> None:
    """Make missing spare databases.

    fingerprint: of the code they are for; empty: the worker's. Raises OtherCode.
    """
    if fingerprint not in ("", code.current().fingerprint):
        raise OtherCode
    progress.tell("making spare databases")
    with open_session() as session:
        refill.fill(session, goes_on=progress.goes_on)
    progress.stop_if_asked()


@app.periodic(cron="*/5 * * * *")
@app.task(
    name="reconcile",
    queue=UPKEEP,
    retry=Backoff(),
    pass_context=True,
    lock="reconcile",
    queueing_lock="reconcile",
)
@platform_job
def reconcile(progress: Progress) -> None:
    """Finish or undo interrupted work, except what is still being worked on."""
    progress.tell("reconciling")
    lifecycle.reconcile_organizations(wait_seconds=0.1)
    note_signing_keys()
    sign_ups.give_up_abandoned()
    mails.forget_addresses()


@app.periodic(cron="17 3 * * *")
@app.task(
    name="clean_up",
    queue=UPKEEP,
    retry=Backoff(),
    pass_context=True,
    lock="clean_up",
    queueing_lock="clean_up",
)
@platform_job
def clean_up(progress: Progress) -> None:
    """Delete expired rows in the master, and enqueue the clean-up of each organization."""
    progress.tell("deleting expired rows in the master")
    pruning.prune()
    progress.tell("enqueueing the organizations")
    enqueueing.clean_up(Organization.objects.reachable())
