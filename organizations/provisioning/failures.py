"""Explains why provisioning failed, without the server's own words."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.db import Error as DatabaseError

from organizations.errors import (
    DatabaseKept,
    FilesKept,
    OrganizationError,
    ProvisioningFailed,
)
from organizations.models import Organization
from organizations.postgres import trouble
from organizations.postgres.databases import DatabaseTaken
from organizations.postgres.sessions import ServerSession
from organizations.tenancy import TenancyError

from .migrations import migration_of

logger = logging.getLogger(__name__)


def explained(organization: Organization, error: BaseException) -> BaseException:
    """The cause as one of our errors, without the server's text, which can name anything.

    That text goes to the log. A BaseException (a worker told to exit) is returned unchanged.
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
    # Administrative statements raise psycopg's errors; Django's run as the organization's role.
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        reason = (
            "permission denied. The application's database role needs CREATEDB and CREATEROLE: "
            "run the output of `manage.py server_sql` as a superuser."
        )
    elif isinstance(root, psycopg.OperationalError):
        return trouble.told(root)
    elif isinstance(root, DatabaseTaken):
        reason = "another database on the server already has its name."
    elif isinstance(root, psycopg.errors.InsufficientPrivilege):
        reason = (
            f"its own role lacks a privilege{where}. See the log, then change the migration, or "
            "have a superuser do that part beforehand."
        )
    else:
        step = organization.provisioned
        reason = f"the step after {step!r} failed ({type(root).__name__}){where}."
    return ProvisioningFailed(organization.name, reason)


@contextmanager
def noted(session: ServerSession, what: str, failed: list[str]) -> Iterator[None]:
    """Add to `failed` what cannot be dropped, and continue.

    Raises the block's error if the session or the server is gone.
    """
    try:
        yield
    except (psycopg.Error, DatabaseError, DatabaseKept, FilesKept) as error:
        if session.connection.closed or trouble.is_servers(error):
            raise
        logger.error("not dropped", extra={"what": what}, exc_info=error)
        failed.append(what)
