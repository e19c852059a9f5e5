"""One of the two test organizations. Both have the same rows, except for their domain."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from django.conf import settings
from django.db import DatabaseError
from django.test import Client
from psycopg import sql

from accounts import link_tokens, tokens
from accounts.link_tokens import Purpose
from accounts.models import LoginSession, User
from organizations import tenancy
from organizations.models import Organization
from organizations.postgres.sessions import master_parameters
from organizations.secrets import unseal
from organizations.tenancy import Tenant

from . import rows
from .clients import Visitor, served_host

Connection = psycopg.Connection[tuple[Any, ...]]
Contents = dict[str, list[tuple[Any, ...]]]


@dataclass(frozen=True)
class Side:
    """One of the two. domain: the ending of its users' addresses and its rows' texts."""

    organization: Organization
    domain: str
    password: str = field(repr=False)

    @property
    def tenant(self) -> Tenant:
        return self.organization.tenant

    @property
    def admin_email(self) -> str:
        return f"admin@{self.domain}"

    def visitor(self, *, checks_csrf: bool = False) -> Client:
        """A client without a credential, at this organization's host."""
        return Visitor(host=served_host(self.tenant.slug), checks_csrf=checks_csrf)

    def tokens(self) -> tuple[str, str]:
        """The admin's access and refresh token."""
        with tenancy.override(self.tenant):
            return tokens.issue(LoginSession.objects.get(pk=rows.TOKEN_SESSION), self.tenant)

    def link(self, purpose: Purpose) -> str:
        """The token of a link mailed to the admin."""
        with tenancy.override(self.tenant):
            return link_tokens.token_for(User.objects.get(pk=rows.ADMIN), purpose=purpose)

    def cookie(self) -> str:
        """The admin's browser session."""
        with tenancy.override(self.tenant):
            session = LoginSession.objects.get(pk=rows.BROWSER_SESSION)
        return tokens.sign_cookie(session, self.tenant)

    def by_token(self) -> Client:
        """The admin with an access token."""
        client = self.visitor()
        client.defaults["HTTP_AUTHORIZATION"] = f"Bearer {self.tokens()[0]}"
        return client

    def by_cookie(self, *, checks_csrf: bool = False) -> Client:
        """The admin with a browser's session."""
        client = self.visitor(checks_csrf=checks_csrf)
        client.cookies[settings.ORG_SESSION_COOKIE_NAME] = self.cookie()
        return client

    def parameters(self, *, database: str | None = None) -> dict[str, Any]:
        """psycopg.connect's parameters as this organization's role, for its database or another."""
        return {
            **master_parameters(),
            "user": self.organization.role_name,
            "password": unseal(self.organization.sealed_password, owner=self.organization.name),
            "dbname": database or self.organization.database_name,
        }

    @contextmanager
    def direct(self) -> Iterator[Connection]:
        """A connection to its database as its role, bypassing the code under test."""
        with psycopg.connect(**self.parameters(), autocommit=True) as connection:
            yield connection

    def plant(self, password_hash: str) -> None:
        """Empty its tables, and make the rows of ROWS; keys start at 1.

        For test organizations only: deletes everything in it. Bypasses the router, but as the
        organization's own role, so that no bug here can reach another's database.
        """
        models = rows.tenant_models()
        tables = [sql.Identifier(m._meta.db_table) for m in models if m._meta.managed]
        empty = sql.SQL("TRUNCATE {} RESTART IDENTITY CASCADE").format(sql.SQL(", ").join(tables))
        with self.direct() as connection:
            connection.execute(empty)
        with tenancy.override(self.tenant):
            for label, make in rows.makers().items():
                try:
                    make(self.domain, password_hash)
                except DatabaseError as error:
                    raise rows.RowsNotMade(label, error) from error
            for model in models:
                if model._meta.auto_created:
                    rows.put_together(model)

    def contents(self) -> Contents:
        """Every row of its database."""
        with self.direct() as connection:
            return contents(connection)

    def traces_in(self, content: bytes) -> list[str]:
        """Texts of this side found in a response."""
        text = content.decode(errors="replace")
        return [mark for mark in (self.domain, self.organization.name) if mark in text]


def contents(connection: Connection) -> Contents:
    """Every row of the database that the connection leads to, by table."""
    tables = connection.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
    ).fetchall()
    return {
        name: connection.execute(
            sql.SQL("SELECT * FROM {} ORDER BY 1").format(sql.Identifier(name))
        ).fetchall()
        for (name,) in tables
    }
