"""Helpers of the audit tests."""

from typing import Any

from django.test import Client

from organizations import audit
from organizations.models import AuditEntry, Organization
from tests.conftest import PASSWORD, Company

NEW_PASSWORD = "another good passphrase"
Entries = list[AuditEntry]


def acts(entries: Entries) -> list[str]:
    return [entry.act for entry in entries]


def hash_of(company: Company, email: str) -> str:
    return audit.person(company.organization.pk, email)


def post(client: Client, path: str, body: Any, request_id: str, **options: Any) -> Any:
    options = {"REMOTE_ADDR": "203.0.113.7", **options}
    headers = {"X-Request-ID": request_id}
    return client.post(path, body, content_type="application/json", headers=headers, **options)


def log_in(client: Client, company: Company, request_id: str, **changes: str) -> Any:
    body = {"organization": company.name, "email": company.email, "password": PASSWORD} | changes
    return post(client, "/api/v1/auth/token/", body, request_id)


def of(organization: Organization) -> Entries:
    return list(AuditEntry.objects.filter(organization_id=organization.pk).order_by("id"))
