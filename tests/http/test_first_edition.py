"""The API that clients of the first edition use: its paths, methods, fields and statuses."""

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
import requests
from django.test import Client
from pytest_django import DjangoDbBlocker

from accounts import services as accounts
from organizations import lifecycle, tenancy
from organizations.models import Organization
from tests.conftest import PASSWORD

from .server import ROOT, WebServer, assert_one_shape

# As the first edition's README prints them.
CURL_EXAMPLES = """
# Create organization
curl -X POST "http://localhost:8000/org/create" \\
  -H "Content-Type: application/json" \\
  -d '{
    "email": "admin@test.com",
    "password": "testpass123",
    "organization_name": "TestOrg"
  }'

# Login
curl -X POST "http://localhost:8000/admin/login?organization_name=TestOrg" \\
  -H "Content-Type: application/json" \\
  -d '{
    "email": "admin@test.com",
    "password": "testpass123"
  }'
"""
PYTHON_EXAMPLE = """
import requests

# Create organization
response = requests.post(
    "http://localhost:8000/org/create",
    json={
        "email": "admin@test.com",
        "password": "testpass123",
        "organization_name": "TestOrg"
    }
)
print(response.json())
"""
ORGANIZATION_FIELDS = {"id", "name", "admin_email", "created_at"}
LOGIN_FIELDS = {"access_token", "token_type", "refresh_token", "expires_in", "user"}


def here(example: str, server: WebServer) -> str:
    """The example, for the server under test."""
    assert "http://localhost:8000" in example
    return example.replace("http://localhost:8000", f"http://localhost:{server.port}")


def run(*command: str) -> str:
    """What the command prints."""
    env = {**os.environ, "NO_PROXY": "*", "no_proxy": "*"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def payload(token: str) -> dict[str, Any]:
    """A JWT's claims, unverified."""
    middle = token.split(".")[1]
    decoded: dict[str, Any] = json.loads(
        base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4))
    )
    return decoded


def assert_organization(body: dict[str, Any], *, name: str, email: str) -> None:
    assert set(body) == ORGANIZATION_FIELDS
    assert type(body["id"]) is int and body["id"] > 0
    assert (body["name"], body["admin_email"]) == (name, email)
    assert datetime.fromisoformat(body["created_at"]).tzinfo is not None


def assert_login(body: dict[str, Any], *, email: str) -> None:
    assert set(body) == LOGIN_FIELDS
    assert body["token_type"] == "bearer"
    assert type(body["expires_in"]) is int and body["expires_in"] == 1800
    assert body["access_token"].count(".") == body["refresh_token"].count(".") == 2
    assert set(body["user"]) == {"id", "email", "is_admin", "is_active"}
    assert type(body["user"]["id"]) is int
    assert (body["user"]["email"], body["user"]["is_admin"], body["user"]["is_active"]) == (
        email,
        True,
        True,
    )


@pytest.fixture(scope="module")
def staffed(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Organization]:
    """An organization with a member, and an admin who was deactivated."""
    with django_db_blocker.unblock():
        name, email = "Contract Works", "admin@test.com"
        made = lifecycle.create_organization(name=name, email=email, password=PASSWORD).organization
        with tenancy.override(made.tenant):
            accounts.create_user(email="member@test.com", password=PASSWORD)
            gone = accounts.create_user(email="gone@test.com", password=PASSWORD, is_admin=True)
            accounts.update_user(gone, is_active=False)
    yield made
    with django_db_blocker.unblock():
        lifecycle.delete_organization(made)


def test_a_client_signs_up_looks_up_and_logs_in_over_one_connection(server: WebServer) -> None:
    with requests.Session() as session:
        session.trust_env = False
        for number in range(2):
            name, email = f"Bench {number}", f"admin@bench{number}.example.com"
            password = "Correct-Horse-9-Battery"
            server.secrets.add(password)
            made = session.post(
                server.url("/org/create"),
                json={
                    "email": email,
                    "password": password,
                    "organization_name": f"Bench  {number}",
                },
            )
            assert (made.status_code, made.headers["Content-Type"]) == (201, "application/json")
            assert_organization(made.json(), name=name, email=email)
            found = session.post(
                server.url("/org/get"), json={"organization_name": f"bench-{number}"}
            )
            assert (found.status_code, found.json()) == (200, made.json())
            login = session.post(
                server.url("/admin/login"),
                params={"organization_name": name},
                json={"email": email, "password": password},
            )
            assert login.status_code == 200, login.text
            assert_login(login.json(), email=email)
            headers = {"Authorization": f"Bearer {login.json()['access_token']}"}
            me = session.get(server.url("/api/v1/me/"), headers=headers)
            assert (me.status_code, me.json()["email"]) == (200, email)


def test_a_refusal_has_its_status_and_code(server: WebServer, staffed: Organization) -> None:
    def log_in(name: str = staffed.name, **who: str) -> requests.Response:
        return server.log_in(name, **who)

    refusals = {
        "unknown lookup": (server.post("/org/get", {"organization_name": "Nobody"}), 404),
        "taken name": (server.sign_up(staffed.name.upper()), 409),
        "unknown address": (log_in(email="nobody@test.com"), 401),
        "wrong password": (log_in(password="not this one"), 401),
        "deactivated": (log_in(email="gone@test.com"), 401),
        "no admin": (log_in(email="member@test.com"), 403),
        "unknown organization": (log_in("Nobody At All"), 404),
    }
    errors = {kind: assert_one_shape(answer, status) for kind, (answer, status) in refusals.items()}
    assert {kind: error["code"] for kind, error in errors.items()} == {
        "unknown lookup": "organization_not_found",
        "taken name": "organization_exists",
        "unknown address": "invalid_credentials",
        "wrong password": "invalid_credentials",
        "deactivated": "invalid_credentials",
        "no admin": "admin_required",
        "unknown organization": "organization_not_found",
    }
    assert "Nobody" in errors["unknown lookup"]["detail"]
    assert errors["unknown address"] == errors["wrong password"] == errors["deactivated"]
    body = {"email": "a@test.com", "password": PASSWORD}
    error = assert_one_shape(server.post("/admin/login", body), 400)
    assert set(error["fields"]) == {"organization_name"}


def test_every_path_works_with_and_without_a_trailing_slash(server: WebServer) -> None:
    for slash in ("", "/"):
        health = server.get(f"/health{slash}")
        assert (health.status_code, health.json()) == (200, {"status": "healthy"})
        assert server.get(f"/openapi.json{slash}").json()["openapi"].startswith("3.")
        for path in ("/org/create", "/org/get", "/api/v1/auth/token", "/api/v1/auth/logout"):
            assert server.post(f"{path}{slash}", {}).status_code in (400, 401), path


def test_the_root_names_the_product_and_links_to_pages_that_are_there() -> None:
    client = Client()
    body = client.get("/").json()
    assert set(body) == {"name", "version", "docs", "redoc", "openapi", "api"}
    for name in ("docs", "redoc", "openapi", "api"):
        assert body[name].startswith("http://testserver/"), name
        assert client.get(body[name].removeprefix("http://testserver")).status_code == 200, name


def test_a_get_of_admin_login_leads_to_the_login_page_of_django_admin() -> None:
    response = Client().get("/admin/login")
    assert (response.status_code, response["Location"]) == (302, "/admin/login/")
    page = Client().get("/admin/login/").content.decode()
    # A form for staff: a user name, and no organization.
    assert 'name="username"' in page and "csrfmiddlewaretoken" in page
    assert 'name="organization"' not in page


def test_the_first_editions_curl_examples_work_as_printed(server: WebServer) -> None:
    printed = run("bash", "-c", here(CURL_EXAMPLES, server))
    organization, end = json.JSONDecoder().raw_decode(printed)
    assert_organization(organization, name="TestOrg", email="admin@test.com")
    login = json.loads(printed[end:])
    assert_login(login, email="admin@test.com")
    assert payload(login["access_token"])["org"] == organization["id"]


def test_the_first_editions_python_example_works_as_printed(server: WebServer) -> None:
    printed = run(sys.executable, "-c", here(PYTHON_EXAMPLE, server))
    fields = "'id': [0-9]+, 'name': 'TestOrg', 'admin_email': 'admin@test.com', 'created_at': '.+'"
    assert re.fullmatch(f"{{{fields}}}\n", printed), printed
