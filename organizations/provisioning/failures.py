"""Explains why provisioning failed, without the server's own words."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.db import Error as DatabaseError

from organizations.errors import DatabaseKept, OrganizationError, ProvisioningFailed
from organizations.models import Organization
from organizations.tenancy import TenancyError

from . import trouble
from .database import DatabaseTaken
from .migrations import migration_of
from .server import ServerSession

logger = logging.getLogger(__name__)


def explained(organization: Organization, error: BaseException) -> BaseException:
    """The cause as one of our errors; without text of the server's, which can name anything.

    That text goes to the log. What is no Exception (a worker that is told to exit) stays as it is.
    """
    root = trouble.cause_of(error)
    passes = isinstance(root, OrganizationError | TenancyError | psycopg.OperationalError)
    logger.log(
        logging.WARNING if passes or not isinstance(error, Exception) else logging.ERROR,
        "provisioning failed",
        extra={"organization": organization.pk, "step": organization.provisioned},
        exc_info=error,
    )
    if isinstance(error, OrganizationError | TenancyError) or not isinstance(error, Exception):
        return error
    migration = migration_of(error)
    where = "" if migration is None else f", in migration {migration}"
    # Administrative statements are psycopg's own; Django's run as the organization's role.
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        reason = (
            "permission denied. The application's database role needs CREATEDB and CREATEROLE: "
            "run what `manage.py server_sql` prints as a superuser."
        )
    elif isinstance(root, psycopg.OperationalError):
        return trouble.told(root)
    elif isinstance(root, DatabaseTaken):
        reason = "its database name is taken on the server by something else."
    elif isinstance(root, psycopg.errors.InsufficientPrivilege):
        reason = (
            f"its own role may not do what was asked of it{where}. The log has the server's words: "
            "change the migration, or have a superuser do that part ahead."
        )
    else:
        step = organization.provisioned
        reason = f"the step after {step!r} failed ({type(root).__name__}){where}."
    return ProvisioningFailed(organization.name, reason)


@contextmanager
def noted(session: ServerSession, what: str, failed: list[str]) -> Iterator[None]:
    """Add to `failed` what the server refuses to drop, or what is kept, and go on with the next.

    Raises what the block raises where the session, or the server, is gone.
    """
    try:
        yield
    except (psycopg.Error, DatabaseError, DatabaseKept) as error:
        if session.connection.closed or trouble.is_servers(error):
            raise
        logger.error("not dropped", extra={"what": what}, exc_info=error)
        failed.append(what)
