"""Random requests that schemathesis makes from the server's own schema, as different users."""

import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import schemathesis
from django.contrib.auth.hashers import make_password
from django.test import Client
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from requests import Session
from schemathesis import checks

from accounts.models import User
from organizations import lifecycle, tenancy
from organizations.models import Organization, Staff
from tests.accounts.helpers import log_in
from tests.conftest import PASSWORD, Company

from .server import WebServer

ON = (
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.missing_required_header,
    checks.unsupported_method,
    checks.allow_header_conformance,
    checks.ignored_auth,
)
# Each check of schemathesis that is not tried, and why.
OFF = {
    checks.positive_data_acceptance: (
        "A schema cannot say that a password is too common, that a name is taken or that an "
        "organization does not exist: what is refused for that is right, and has its own tests."
    ),
    checks.use_after_free: (
        "Needs chains of calls; tests/accounts/test_users_changes_api.py has them."
    ),
    checks.ensure_resource_availability: (
        "Needs chains of calls; tests/accounts/test_users_api.py has them."
    ),
    checks.object_level_authorization: (
        "Needs links between operations; tests/test_isolation.py tries every endpoint."
    ),
}
# Checks that are not tried on forms, and why.
OFF_FOR_FORMS = {
    checks.negative_data_rejection: (
        "A form cannot leave a field empty: DRF takes an empty one that is not required for one "
        "that was left out, and a text for whatever it spells. No schema can say that."
    ),
}
# What is wrong is refused with one of these; a long query before anybody has read it.
REFUSALS = [400, 401, 403, 404, 405, 409, 413, 414, 415, 429, 431, 503]
JSON = "application/json"
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
# Operations that are left out, and why.
LEFT_OUT: dict[str, str] = {}
Case = schemathesis.Case[Any]
# Each takes a database of its own, a third of a second and room on the server.
SIGN_UPS = ("POST /org/create", "POST /api/v1/organizations/")


@dataclass
class Visitor:
    """A user who sends requests, and logs in again if a request ended the login.

    role: `stranger`, `member` or `admin` of the company, or `staff`.
    """

    server: WebServer
    company: Company
    role: str
    headers: dict[str, str] = field(default_factory=dict)
    cookies: dict[str, str] = field(default_factory=dict)
    sent: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._hash = make_password(PASSWORD)
        self.email = f"{self.role}-{secrets.token_hex(4)}@fuzz.example"
        self.refresh = "none"
        self.come_in()

    def come_in(self) -> None:
        """Log in; restores the account first."""
        if self.role in ("member", "admin"):
            with tenancy.override(self.company.tenant):
                user, _ = User.objects.update_or_create(
                    email_key=self.email,
                    defaults={
                        "email": self.email,
                        "password": self._hash,
                        "is_admin": self.role == "admin",
                        "is_active": True,
                    },
                )
            access, self.refresh = log_in(self.company, user)
            self.headers = {"Authorization": f"Bearer {access}"}
        elif self.role == "staff":
            staff = Staff.objects.create_superuser(self.email, None, PASSWORD)
            client, forgery = Client(), secrets.token_hex(16)
            client.force_login(staff)
            session = client.cookies["sessionid"].value
            self.headers = {"X-CSRFToken": forgery}
            self.cookies = {"sessionid": session, "csrftoken": forgery}

    def send(self, case: Case) -> schemathesis.Response:
        """Send it; if the login has ended, log in and send it again."""
        response = self._call(case)
        if response.status_code == 401 and self.role in ("member", "admin"):
            self.come_in()
            response = self._call(case)
        self.sent[f"{case.operation.label} {response.status_code}"] += 1
        return response

    def _call(self, case: Case) -> schemathesis.Response:
        with Session() as session:
            session.trust_env = False
            return case.call(
                self.server.url(""),
                session,
                headers=self.headers,
                cookies=self.cookies,
                allow_redirects=False,
            )

    def _undelete(self) -> None:
        """Bring back the company, if a request of staff has deleted it."""
        row = Organization.objects.get(pk=self.company.organization.pk)
        if row.status == Organization.Status.TRASHED:
            lifecycle.undelete_organization(row)

    def steer(self, case: Case, choice: int) -> None:
        """Use existing names and ids: random ones are nearly always refused."""
        self._undelete()
        with tenancy.override(self.company.tenant):
            keys = list(User.objects.values_list("pk", flat=True))
        known = {
            "id": keys[choice % len(keys)],
            "id_or_slug": (self.company.organization.pk, self.company.tenant.slug)[choice % 2],
            "organization": self.company.name,
            "organization_name": self.company.name,
            "current_password": PASSWORD,
            "refresh": self.refresh,
        }
        if case.operation.label in SIGN_UPS:
            del known["organization_name"]
        if "token" in case.operation.path or "login" in case.operation.path:
            known |= {"email": self.email, "password": PASSWORD}
        for part in (case.path_parameters, case.query, case.body):
            if isinstance(part, dict):
                part.update({name: known[name] for name in known if name in part})


@dataclass
class Trial:
    """One operation as one visitor, with random requests that fit the schema or do not."""

    visitor: Visitor
    seed: int
    examples: int
    failures: list[str] = field(default_factory=list)

    def run(self, operation: Any) -> None:
        for mode in schemathesis.GenerationMode:
            try:
                self._attempts(operation, mode)()
            except Unsatisfiable:
                # There is nothing in this operation that could be wrong.
                assert mode is schemathesis.GenerationMode.NEGATIVE
            except Exception as error:
                self.failures.append(f"{operation.label} as {self.visitor.role}: {error}")

    def _attempts(self, operation: Any, mode: schemathesis.GenerationMode) -> Callable[[], None]:
        signs_up = operation.label in SIGN_UPS
        positive = mode is schemathesis.GenerationMode.POSITIVE
        count = min(self.examples, 3) if signs_up and positive else self.examples

        @hypothesis.seed(self.seed)
        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=tuple(HealthCheck),
            verbosity=Verbosity.quiet,
            print_blob=False,
        )
        @given(case=operation.as_strategy(generation_mode=mode), choice=st.integers(0, 9))
        def attempt(case: Case, choice: int) -> None:
            if positive and choice < 7:
                self.visitor.steer(case, choice)
            case.validate_response(
                self.visitor.send(case),
                checks=[*ON],
                excluded_checks=[*OFF_FOR_FORMS] if case.media_type in FORMS else [],
                transport_kwargs={
                    "headers": self.visitor.headers,
                    "cookies": self.visitor.cookies,
                },
            )

        return attempt


def _name_forms(schema: dict[str, Any]) -> None:
    """Below /api/ forms are taken too, for the browsable API; the schema keeps that to itself."""
    for path, item in schema["paths"].items():
        for operation in item.values():
            content = operation.get("requestBody", {}).get("content", {})
            if path.startswith("/api/") and content:
                content.update({kind: {"schema": content[JSON]["schema"]} for kind in FORMS})


def operations(server: WebServer) -> list[Any]:
    """Every operation of the schema that the server shows, but those that are left out."""
    # The visitor's own login takes the place of made-up ones; ignored_auth tries without.
    config = schemathesis.Config.from_dict(
        {
            "generation": {"with-security-parameters": False},
            "checks": {"negative_data_rejection": {"expected-statuses": REFUSALS}},
        }
    )
    shown = server.get("/openapi.json").json()
    _name_forms(shown)
    schema = schemathesis.openapi.from_dict(shown, config=config)
    found: list[Any] = [result.ok() for result in schema.get_all_operations()]  # type: ignore[union-attr]
    return [operation for operation in found if operation.label not in LEFT_OUT]


def try_everything(
    visitor: Visitor, *, seed: int, examples: int, until: float = 0
) -> tuple[list[str], int]:
    """Try everything again and again until `until`; the faults and the last seed."""
    while True:
        trial = Trial(visitor, seed, examples)
        for operation in operations(visitor.server):
            trial.run(operation)
        if trial.failures or time.monotonic() >= until:
            return trial.failures, seed
        seed += 1
