"""A django_migrations that is not a table: its organization fails in time, the others continue."""

import pytest
from pytest_django import Settings

from organizations.migrating.engine import Engine
from organizations.migrating.fleet import migrate_one
from organizations.migrating.results import Kind
from organizations.models import Organization
from organizations.tenancy import guard
from tests.conftest import Company
from tests.organizations.tenancy.hostile import replaced


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(guard, "CANCEL_SECONDS", 0.3)


LARGE = "is larger than that of any project"
VIEWS = {
    # It swallows cancels, too.
    "SELECT * FROM kept WHERE forever()": "took too long to read",
    # Gigabytes, long names, many rows.
    "SELECT repeat('x', 1000000)::text AS app, '' AS name, now() AS applied, n AS id "
    "FROM generate_series(1, 3000) AS n": LARGE,
    "SELECT md5(n::text) || repeat('x', 200) AS app, 'x' AS name, now() AS applied, n AS id "
    "FROM generate_series(1, 4000) AS n": LARGE,
    "SELECT 'accounts' AS app, n::text AS name, now() AS applied, n AS id "
    "FROM generate_series(1, 20000) AS n": LARGE,
}


@pytest.mark.timeout(60)
def test_the_failure_is_its_organizations_alone(
    alpha: Company, beta: Company, settings: Settings
) -> None:
    engine, usual_seconds = Engine(), settings.STATEMENT_TIMEOUT_SECONDS
    for view, said in VIEWS.items():
        with replaced(alpha, "django_migrations", view):
            settings.STATEMENT_TIMEOUT_SECONDS = 0.3 if "forever" in view else usual_seconds
            result = migrate_one(alpha.organization, engine)
            settings.STATEMENT_TIMEOUT_SECONDS = usual_seconds
            assert (result.kind, said in result.error) == (Kind.FAILED, True), result.error
            assert migrate_one(beta.organization, engine).kind == Kind.IN_STEP
        assert migrate_one(alpha.organization, engine).kind == Kind.IN_STEP
    Organization.objects.filter(pk=alpha.organization.pk).update(migration_error="")
