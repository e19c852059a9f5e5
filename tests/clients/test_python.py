"""A client that openapi-python-client makes of the schema, used against the server."""

import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.http.server import WebServer

pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]

PASSWORD = "correct horse battery"
EMAIL = "ada@example.com"


@pytest.fixture(scope="session")
def package(schema: Path) -> ModuleType:
    """The package as it is made, without a warning, every module of it imported."""
    folder = schema.parent
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none"]
    command += ["--path", schema.name, "--output-path", "generated", "--fail-on-warning"]
    (folder / "config.yml").write_text("post_hooks: []\n")
    done = subprocess.run(
        [*command, "--config", "config.yml"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    try:
        made = importlib.import_module("generated")
        for found in pkgutil.walk_packages(made.__path__, "generated."):
            importlib.import_module(found.name)
    finally:
        sys.path.remove(str(folder))
    return made


class Api:
    """Calls operations by their ids, and answers what the client has made of the answers."""

    def __init__(self, package: ModuleType, server: WebServer) -> None:
        self.package, self.server = package, server
        self.client = package.Client(base_url=server.url(""), raise_on_unexpected_status=True)
        self.models = importlib.import_module(f"{package.__name__}.models")
        self.operations = {
            found.name.rpartition(".")[2]: importlib.import_module(found.name)
            for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
            if ".api." in found.name and not found.ispkg
        }

    def log_in(self, token: str) -> None:
        self.client.get_httpx_client().close()
        self.client = self.package.AuthenticatedClient(
            base_url=self.server.url(""), token=token, raise_on_unexpected_status=True
        )

    def __call__(self, operation: str, *arguments: Any, status: int = 200, **named: Any) -> Any:
        made = self.operations[operation].sync_detailed(*arguments, client=self.client, **named)
        assert made.status_code == status, made.content
        return made.parsed


@pytest.fixture
def api(package: ModuleType, server: WebServer) -> Iterator[Api]:
    made = Api(package, server)
    yield made
    made.client.get_httpx_client().close()


def test_a_generated_client_signs_up_logs_in_and_works(api: Api) -> None:
    models = api.models
    assert api("health").status == "healthy"
    person = {"email": EMAIL, "password": PASSWORD}
    sign_up = models.SignUpInputRequest(**person, organization_name="Generated Client")
    made = api("org_create", body=sign_up, status=201)
    assert (made.name, made.admin_email) == ("Generated Client", EMAIL)
    found = api("org_get", body=models.NameInputRequest(organization_name="generated client"))
    assert found.to_dict() == made.to_dict()
    taken = api("org_create", body=sign_up, status=409)
    assert taken.code == "organization_exists"
    login = api(
        "admin_login",
        body=models.CredentialsInputRequest(**person),
        organization_name="Generated Client",
    )
    assert (login.user.email, login.user.is_admin) == (EMAIL, True)

    api.log_in(login.access_token)
    assert api("organization_retrieve").id == made.id
    new = models.NewUserInputRequest(email="bea@example.com", password=PASSWORD)
    user = api("users_create", body=new, status=201)
    change = models.PatchedUserInputRequest(is_active=False)
    assert api("users_partial_update", user.id, body=change).is_active is False
    listed = api("users_list", is_active=False, page=1, page_size=10, ordering="-created_at")
    assert [each.id for each in listed.results] == [user.id]
    wrong = api("users_create", body=models.NewUserInputRequest("x", "short"), status=400)
    assert set(wrong.fields.to_dict()) == {"email", "password"}
    api("users_destroy", user.id, status=204)
    entries = api("audit_list", page_size=2)
    assert entries.results[0].act == "user.removed"
    api("logout", body=models.LogoutInputRequest(refresh=login.refresh_token), status=204)
    assert api("me_retrieve", status=401).code == "invalid_token"


def test_a_generated_client_waits_for_its_sign_up(api: Api) -> None:
    """The answer 202 is another one than 201, of the same operation."""
    body = api.models.SignUpInputRequest(EMAIL, PASSWORD, "Generated Later")
    accepted = api("org_create", body=body, prefer="respond-async", status=202)
    assert accepted.state.value == "waiting"
    token = accepted.status_url.rpartition("/")[2]
    assert api("sign_up_status", token).state.value in ("waiting", "running", "done")
