"""Enqueues clones for staff, and reads their state from the queue."""

from collections.abc import Callable
from dataclasses import dataclass

from procrastinate.contrib.django import app
from procrastinate.exceptions import AlreadyEnqueued

from organizations import lifecycle
from organizations.audit import unmarked
from organizations.errors import OrganizationExists
from organizations.models import Organization, random_key
from organizations.naming import name_digest
from organizations.tenancy import trail

from .enqueueing import in_master
from .newest import newest_job

TASK = "clone_organization"


@dataclass(frozen=True, slots=True)
class Clone:
    """The newest requested clone of an organization.

    state: none, waiting, running, done or failed. step: the current or last one. error: why it
    failed, or why its last try did. id: the clone's, once it is done and not deleted since.
    """

    state: str
    name: str = ""
    exact: bool = False
    step: str = ""
    error: str = ""
    id: int | None = None


def ask(
    organization: Organization,
    *,
    name: str,
    exact: bool = False,
    mark: Callable[[], object] = unmarked,
) -> Clone:
    """Enqueue a clone of this name. mark: called in the commit.

    Raises as lifecycle.check_clone does, OrganizationExists also if one of this name waits, and
    ServerUnavailable.
    """
    name = lifecycle.check_clone(organization, name=name)
    job = app.tasks[TASK].configure(queueing_lock=f"clone:{name_digest(name)}")
    try:
        with in_master():
            mark()
            facts = {"exact": exact}
            trail.record("organization.clone_asked", organization_id=organization.pk, facts=facts)
            job.defer(organization_id=organization.pk, name=name, exact=exact, key=random_key())
    except AlreadyEnqueued as error:
        raise OrganizationExists(name) from error
    return Clone("waiting", name, exact)


def newest(organization: Organization) -> Clone:
    """The state of the newest one."""
    job = newest_job(TASK, organization.pk)
    if job.state == "none":
        return Clone("none")
    made = Organization.objects.usable().filter(key=job.args["key"])
    number = made.values_list("pk", flat=True).first()
    return Clone(job.state, job.args["name"], job.args["exact"], job.step, job.error, number)
