"""Suspends and resumes an organization."""

import logging
from collections.abc import Callable

from organizations.audit import recorded, unmarked
from organizations.errors import (
    DatabaseKept,
    OrganizationError,
    OrganizationNotFound,
    WrongState,
)
from organizations.jobs.frame import wake
from organizations.models import Organization
from organizations.postgres import identity
from organizations.postgres.fence import fence
from organizations.postgres.sessions import open_session, refuse_in_transaction
from organizations.provisioning.undoing import change_status, expected
from organizations.validators import validate_suspension

logger = logging.getLogger(__name__)

Status = Organization.Status


def suspend_organization(
    organization: Organization,
    *,
    reason: str = "",
    message: str = "",
    mark: Callable[[], object] = unmarked,
) -> None:
    """Block all access at once, and end running queries. Raises WrongState unless it is active.

    reason: for staff. message: for whoever is refused because of it. mark: called in the commit.
    Raises ValidationError by field, and as fence() does. After SessionsRemain it is suspended, and
    a second try ends what is left before it says so. Migrations and backups still run, and those
    that were ended run again; its own jobs wait.
    """
    refuse_in_transaction()
    reason, message = validate_suspension(reason=reason, message=message)
    with open_session() as session:
        _ = session.installation  # A copy of the master ends no session.
    # The texts themselves can name persons.
    facts = {"with_reason": bool(reason), "with_message": bool(message)}
    try:
        with recorded("organization.suspended", organization, facts):
            if not change_status(
                organization,
                Status.SUSPENDED,
                only_from=(Status.ACTIVE,),
                reason=reason,
                message=message,
            ):
                raise _wrong_state(organization, wanted=Status.ACTIVE)
            mark()
    except WrongState:
        fence(organization)  # What an interrupted act has left, maybe this one.
        raise
    logger.info("organization suspended", extra={"organization": organization.pk})
    fence(organization)


def resume_organization(
    organization: Organization, *, mark: Callable[[], object] = unmarked
) -> None:
    """Restore access, and run the jobs that waited. Raises WrongState unless it is suspended.

    mark: called in the commit. Raises DatabaseKept if its database is another installation's
    (claim_installation --new).
    """
    with open_session() as session:
        found = identity.find(
            session, role=organization.role_name, database=organization.database_name
        )
        let_in = expected(organization)
        if organization.status == Status.SUSPENDED and found.identity is not None:
            why = identity.disagreement(found.identity, let_in, installation=session.installation)
            if why:
                raise DatabaseKept(organization.name, why)
    with recorded("organization.resumed", organization):
        if not change_status(organization, Status.ACTIVE, only_from=(Status.SUSPENDED,)):
            raise _wrong_state(organization, wanted=Status.SUSPENDED)
        wake(organization.pk)
        mark()
    logger.info("organization resumed", extra={"organization": organization.pk})


def _wrong_state(organization: Organization, *, wanted: Status) -> OrganizationError:
    """The error for the organization's current status in the master."""
    now = Organization.objects.filter(pk=organization.pk).values_list("status", flat=True).first()
    if now is None:
        return OrganizationNotFound(organization.name)
    return WrongState(organization.name, status=now, wanted=wanted)
