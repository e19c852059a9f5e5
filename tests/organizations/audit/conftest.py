"""Fixtures of the audit tests: users, and the audit entries of their requests."""

import secrets
from collections.abc import Callable, Iterator

import pytest

from accounts import services as people
from accounts.models import User
from organizations import tenancy
from organizations.models import AuditEntry, Staff
from tests.accounts.helpers import unique_email
from tests.conftest import PASSWORD, Company

from .helpers import Entries


@pytest.fixture
def request_id() -> str:
    return f"test-{secrets.token_hex(8)}"


@pytest.fixture
def told(request_id: str) -> Callable[[], Entries]:
    """The entries of requests that carry this test's id, oldest first."""
    return lambda: list(AuditEntry.objects.filter(request_id=request_id).order_by("id"))


@pytest.fixture
def member(alpha: Company) -> Iterator[User]:
    with tenancy.override(alpha.tenant):
        user = people.create_user(email=unique_email(), password=PASSWORD)
    yield user
    with tenancy.override(alpha.tenant):
        User.objects.filter(email_key=user.email_key).delete()


@pytest.fixture
def staff() -> Iterator[Staff]:
    person = Staff.objects.create_superuser(f"staff-{secrets.token_hex(4)}", None, PASSWORD)
    yield person
    Staff.objects.filter(pk=person.pk).delete()
