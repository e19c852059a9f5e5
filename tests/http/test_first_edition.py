"""The API that clients of the first edition use: its paths, methods, fields and statuses."""

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from accounts import services as accounts
from organizations import tenancy
from tests.conftest import PASSWORD, Company

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
    """What a JWT says, unchecked."""
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


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_sign_up_answers_201_and_the_organization(either: WebServer, slash: str) -> None:
    body = {"email": "a@new.example", "password": PASSWORD, "organization_name": "New  Company"}
    response = either.post(f"/org/create{slash}", body)
    assert response.status_code == 201, response.text
    assert response.headers["Content-Type"] == "application/json"
    assert_organization(response.json(), name="New Company", email="a@new.example")


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_look_up_answers_the_same_body_as_the_sign_up(server: WebServer, slash: str) -> None:
    made = server.sign_up("Look Up")
    response = server.post(f"/org/get{slash}", {"organization_name": "look-up"})
    assert (response.status_code, response.json()) == (200, made.json())


def test_a_look_up_of_an_unknown_name_is_404(server: WebServer) -> None:
    error = assert_one_shape(server.post("/org/get", {"organization_name": "Nobody"}), 404)
    assert error["code"] == "organization_not_found" and "Nobody" in error["detail"]


def test_a_taken_name_is_409(server: WebServer, alpha: Company) -> None:
    assert assert_one_shape(server.sign_up(alpha.name), 409)["code"] == "organization_exists"


def test_an_admin_logs_in(either: WebServer, alpha: Company) -> None:
    response = either.log_in(alpha.name, email=alpha.email)
    assert response.status_code == 200, response.text
    assert_login(response.json(), email=alpha.email)


def test_a_token_names_its_organization_issuer_and_audience(
    server: WebServer, alpha: Company, beta: Company
) -> None:
    for company in (alpha, beta):
        body = server.log_in(company.name, email=company.email).json()
        for name in ("access_token", "refresh_token"):
            claims = payload(body[name])
            assert claims["org"] == company.organization.pk, name
            assert claims["iss"] and claims["aud"], name


def test_the_access_token_works_at_once(server: WebServer, alpha: Company) -> None:
    token = server.log_in(alpha.name, email=alpha.email).json()["access_token"]
    response = server.get("/api/v1/me/", headers={"Authorization": f"Bearer {token}"})
    assert response.status_code == 200
    assert response.json()["email"] == alpha.email


def test_wrong_email_wrong_password_and_inactive_user_have_one_answer(
    server: WebServer, company: Callable[..., Company]
) -> None:
    made = company()
    with tenancy.override(made.tenant):
        gone = accounts.create_user(email="gone@test.com", password=PASSWORD, is_admin=True)
        accounts.update_user(gone, is_active=False)
    answers = [
        server.log_in(made.name, email="nobody@test.com"),
        server.log_in(made.name, email=made.email, password="not this one"),
        server.log_in(made.name, email="gone@test.com"),
    ]
    errors = [assert_one_shape(answer, 401) for answer in answers]
    assert errors[0] == errors[1] == errors[2]
    assert errors[0]["code"] == "invalid_credentials"


def test_a_user_who_is_no_admin_is_403_at_the_admin_login(
    server: WebServer, company: Callable[..., Company]
) -> None:
    made = company()
    with tenancy.override(made.tenant):
        accounts.create_user(email="member@test.com", password=PASSWORD)
    error = assert_one_shape(server.log_in(made.name, email="member@test.com"), 403)
    assert error["code"] == "admin_required"


def test_a_login_at_an_unknown_organization_is_404(server: WebServer) -> None:
    error = assert_one_shape(server.log_in("Nobody At All"), 404)
    assert error["code"] == "organization_not_found"


def test_a_login_without_an_organization_says_which_parameter_lacks(server: WebServer) -> None:
    body = {"email": "a@test.com", "password": PASSWORD}
    error = assert_one_shape(server.post("/admin/login", body), 400)
    assert set(error["fields"]) == {"organization_name"}


@pytest.mark.parametrize("slash", ["", "/"])
def test_health_answers_healthy(either: WebServer, slash: str) -> None:
    response = either.get(f"/health{slash}")
    assert (response.status_code, response.json()) == (200, {"status": "healthy"})


def test_the_root_names_the_product_and_links_to_pages_that_are_there(server: WebServer) -> None:
    response = server.get("/")
    body = response.json()
    assert response.status_code == 200
    assert set(body) == {"name", "version", "docs", "redoc", "openapi", "api"}
    for name in ("docs", "redoc", "openapi", "api"):
        assert body[name].startswith(server.url("/")), name
        assert server.get(body[name].removeprefix(server.url(""))).status_code == 200, name


def test_a_get_of_admin_login_leads_to_the_login_page_of_django_admin(server: WebServer) -> None:
    response = server.get("/admin/login")
    assert (response.status_code, response.headers["Location"]) == (302, "/admin/login/")
    page = server.get("/admin/login/")
    assert page.status_code == 200
    # A form for staff: a user name, and no organization.
    assert 'name="username"' in page.text and "csrfmiddlewaretoken" in page.text
    assert 'name="organization"' not in page.text


@pytest.mark.parametrize("path", ["/docs", "/docs/", "/redoc", "/redoc/"])
def test_the_documentation_pages_load_from_this_server_alone(server: WebServer, path: str) -> None:
    page = server.get(path)
    assert page.status_code == 200
    # Namespaces of SVG are names, and nothing is loaded from them.
    outside = set(re.findall(r"https?://[^\s\"'<>)]+", page.text)) - {"http://www.w3.org/2000/svg"}
    assert not outside
    assets = re.findall(r"(?:src|href)=\"([^\"]+)\"", page.text)
    assert assets
    for asset in assets:
        assert asset.startswith("/"), asset
        loaded = server.get(asset)
        assert loaded.status_code == 200, asset
        # A bundle that would load a picture from elsewhere must be kept from it.
        if "https://cdn." in loaded.text:
            policy = page.headers.get("Content-Security-Policy", "")
            assert "default-src 'self'" in policy or "img-src 'self'" in policy, asset


@pytest.mark.parametrize("path", ["/openapi.json", "/openapi.json/"])
def test_the_schema_is_json(either: WebServer, path: str) -> None:
    response = either.get(path)
    assert response.status_code == 200
    assert response.json()["openapi"].startswith("3.")


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


def test_a_client_that_makes_looks_up_and_logs_in_over_one_connection_is_served(
    server: WebServer,
) -> None:
    """The calls of a load client: several organizations in turn, connections kept alive."""
    import requests

    with requests.Session() as session:
        session.trust_env = False
        for number in range(2):
            name, email = f"bench{number}", f"admin@bench{number}.example.com"
            password = "Correct-Horse-9-Battery"
            server.secrets.add(password)
            made = session.post(
                server.url("/org/create"),
                json={"email": email, "password": password, "organization_name": name},
            )
            assert made.status_code == 201, made.text
            found = session.post(server.url("/org/get"), json={"organization_name": name})
            assert (found.status_code, found.json()) == (200, made.json())
            login = session.post(
                server.url("/admin/login"),
                params={"organization_name": name},
                json={"email": email, "password": password},
            )
            assert login.status_code == 200, login.text
            assert_login(login.json(), email=email)
