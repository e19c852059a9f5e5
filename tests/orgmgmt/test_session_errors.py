"""A staff session that the database refuses to save: 503."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.test import Client

from organizations.models import Staff
from tests.conftest import PASSWORD
from tests.plugin import SERVER


@contextmanager
def full_disk() -> Iterator[None]:
    """Writing a session fails during the block with PostgreSQL's error for a full disk."""
    parameters = SERVER.superuser_parameters("master_org_db")
    with psycopg.connect(**parameters, autocommit=True) as owner:  # type: ignore[arg-type]
        owner.execute(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN RAISE 'no space left' USING ERRCODE = 'disk_full'; END$$"
        )
        owner.execute(
            "CREATE TRIGGER full_disk BEFORE UPDATE ON django_session "
            "FOR EACH ROW EXECUTE FUNCTION full_disk()"
        )
        try:
            yield
        finally:
            owner.execute("DROP FUNCTION full_disk CASCADE")


def test_a_session_that_cannot_be_saved_is_503_and_not_400() -> None:
    """Django takes it for one that was deleted meanwhile, and would answer 400."""
    staff = Staff.objects.create_superuser("unlucky", None, PASSWORD)
    with full_disk():
        response = Client().post("/admin/login/", {"username": "unlucky", "password": PASSWORD})
    staff.delete()
    assert (response.status_code, response["Retry-After"]) == (503, "2")
    assert response.json()["code"] == "database_unavailable"
