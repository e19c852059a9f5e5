"""Why a step of provisioning failed, in our words."""

import logging

import psycopg
from django.db import Error as DatabaseError

from organizations.errors import OrganizationError, ProvisioningFailed, ServerUnavailable
from organizations.models import Organization
from organizations.tenancy import TenancyError

from .database import DatabaseTaken

logger = logging.getLogger(__name__)


def explained(organization: Organization, error: BaseException) -> BaseException:
    """The cause as one of our errors; without text of the server's, which can name anything.

    That text goes to the log. What is no Exception (a worker that is told to exit) stays as it is.
    """
    logger.warning(
        "provisioning failed",
        extra={"organization": organization.pk, "step": organization.provisioned},
        exc_info=error,
    )
    if isinstance(error, OrganizationError | TenancyError) or not isinstance(error, Exception):
        return error
    root: BaseException = error
    if isinstance(error, DatabaseError) and isinstance(error.__cause__, psycopg.Error):
        root = error.__cause__
    if isinstance(root, psycopg.errors.InsufficientPrivilege):
        reason = (
            "permission denied. The application's database role needs CREATEDB and CREATEROLE: "
            "run what `manage.py server_sql` prints as a superuser."
        )
    elif isinstance(root, psycopg.OperationalError):
        return ServerUnavailable()
    elif isinstance(root, DatabaseTaken):
        reason = "its database name is taken on the server by something else."
    else:
        reason = f"the step behind {organization.provisioned!r} failed ({type(root).__name__})."
    return ProvisioningFailed(organization.name, reason)
