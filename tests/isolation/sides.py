"""One of two organizations whose rows differ in nothing but whose they are."""

from dataclasses import dataclass
from typing import Any

import psycopg
from django.test import Client
from psycopg import sql

from accounts import links, tokens
from accounts.links import Purpose
from accounts.models import LoginSession, User
from organizations import tenancy
from organizations.models import Organization
from organizations.tenancy import Tenant
from tests.plugin import SERVER

from . import rows


@dataclass(frozen=True)
class Side:
    """One of the two."""

    organization: Organization
    domain: str

    @property
    def tenant(self) -> Tenant:
        return self.organization.tenant

    def tokens(self) -> tuple[str, str]:
        """The admin's access and refresh token."""
        with tenancy.override(self.tenant):
            return tokens.issue(LoginSession.objects.get(pk=rows.TOKEN_SESSION), self.tenant)

    def link(self, purpose: Purpose) -> str:
        """The token of a link that was mailed to the admin."""
        with tenancy.override(self.tenant):
            return links.token_for(User.objects.get(pk=rows.ADMIN), purpose=purpose)

    def by_token(self) -> Client:
        """The admin with an access token."""
        client = Client(raise_request_exception=False)
        client.defaults["HTTP_AUTHORIZATION"] = f"Bearer {self.tokens()[0]}"
        return client

    def by_cookie(self) -> Client:
        """The admin with a browser's session."""
        client = Client(raise_request_exception=False)
        with tenancy.override(self.tenant):
            session = LoginSession.objects.get(pk=rows.BROWSER_SESSION)
        client.cookies[tokens.SESSION_COOKIE] = tokens.sign_cookie(session, self.tenant)
        return client

    def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of its database, read past the code under test: as the server's superuser."""
        parameters: dict[str, Any] = {
            **SERVER.superuser_parameters(),
            "dbname": self.organization.database_name,
        }
        with psycopg.connect(**parameters) as connection:
            tables = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
            ).fetchall()
            return {
                name: connection.execute(
                    sql.SQL("SELECT * FROM {} ORDER BY 1").format(sql.Identifier(name))
                ).fetchall()
                for (name,) in tables
            }

    def traces_in(self, content: bytes) -> list[str]:
        """What of this side can be read in an answer."""
        text = content.decode(errors="replace")
        return [mark for mark in (self.domain, self.organization.name) if mark in text]
