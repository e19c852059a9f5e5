"""Helpers of the restore tests: users, kept databases, answers."""

from pathlib import Path
from typing import Any

from django.test import Client
from psycopg import sql

from accounts import services
from accounts.models import User
from organizations import lifecycle, tenancy
from organizations.models import Organization, Restore
from organizations.postgres import identity
from organizations.postgres.sessions import open_session
from organizations.tenancy import storage
from tests.conftest import PASSWORD, Company, Superuser
from tests.organizations.cloning.helpers import rows_of


def row_of(company: Company) -> Organization:
    return Organization.objects.get(pk=company.organization.pk)


def add(company: Company, email: str) -> User:
    with tenancy.override(row_of(company).tenant):
        return services.create_user(email=email, password=PASSWORD)


def emails(company: Company) -> list[str]:
    with tenancy.override(row_of(company).tenant):
        return list(User.objects.order_by("pk").values_list("email", flat=True))


def write_file(company: Company, name: str, content: str) -> None:
    path = storage.folder_of(company.organization.key) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def contents(key: str) -> dict[str, str]:
    """The files of the folder of this key."""
    folder = storage.folder_of(key)
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def owner_of(superuser: Superuser, database: str) -> Any:
    """Its owner, and whether it accepts connections; None if it is gone."""
    query = "SELECT pg_get_userbyid(datdba)::text, datallowconn FROM pg_database WHERE datname = %s"
    return superuser.execute(query, (database,)).fetchone()


def can_log_in(superuser: Superuser, role: str) -> bool:
    row = superuser.execute("SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", (role,))
    return row.fetchone() == (True,)


def me(client: Client, token: str) -> int:
    answer = client.get("/api/v1/me/", headers={"Authorization": f"Bearer {token}"})
    return int(answer.status_code)


def the_restore(company: Company) -> Restore:
    """Its newest."""
    found = Restore.objects.filter(organization_id=company.organization.pk).first()
    assert found is not None
    return found


def execute_as_superuser(superuser: Superuser, statement: str, *names: str) -> None:
    superuser.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def look_at(company: Company, **options: Any) -> Company:
    """What is restored beside it."""
    return Company(lifecycle.restore_beside(row_of(company), **options), company.email)


def whole(company: Company) -> tuple[object, ...]:
    """All that the master and its database say of an organization."""
    row = Organization.objects.filter(pk=company.organization.pk).values().get()
    with open_session() as session:
        names = {"role": row["role_name"], "database": row["database_name"]}
        return row, identity.find(session, **names), rows_of(row_of(company))


def besides() -> list[Organization]:
    """What was restored beside another one, and is not dropped."""
    return list(Organization.objects.live().exclude(read_only_until=None).order_by("pk"))
