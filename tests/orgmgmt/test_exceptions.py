"""The exception handler: from an error to its HTTP answer, for errors that HTTP cannot cause."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.exceptions import (
    PermissionDenied,
    SuspiciousOperation,
    TooManyFieldsSent,
    ValidationError,
)
from django.db import IntegrityError, InterfaceError, OperationalError
from django.http import Http404
from django.test import RequestFactory
from redis.exceptions import RedisError
from rest_framework import exceptions as drf

from accounts import errors as account_errors
from organizations import errors
from organizations.tenancy import NoTenant, RegistryFull, WrongTenant
from orgmgmt.edge import exceptions, handlers

pytestmark = pytest.mark.pure

request = RequestFactory().get("/")
MADE: list[tuple[Exception, int]] = [
    (errors.OrganizationNotFound("X"), 404),
    (errors.OrganizationExists("X"), 409),
    (errors.OrganizationBusy("X"), 409),
    (errors.OrganizationSuspended("X"), 403),
    (errors.OrganizationArchived("X"), 403),
    (errors.OrganizationReadOnly("X", datetime(2026, 1, 22, tzinfo=UTC)), 403),
    (errors.OrganizationMigrating("Acme"), 503),
    (errors.OrganizationMismatch("The header X-Org"), 403),
    (errors.WrongState("X", status="active", wanted="suspended"), 409),
    (errors.ProvisioningFailed("X", "a reason."), 503),
    (errors.ServerUnavailable(), 503),
    (errors.TookTooLong(), 503),
    (errors.ServerRefused("UndefinedObject"), 503),
    (errors.DatabaseInUse("ObjectInUse"), 503),
    (errors.CredentialUnreadable("X"), 503),
    (errors.MigrationsIncoherent("two leaves"), 503),
    (errors.TooManyOrganizations(), 503),
    (errors.CacheUnavailable(), 503),
    (errors.DatabaseKept("X", "a reason"), 409),
    (errors.DatabaseGone("X"), 409),
    (errors.UndeletionFailed("X"), 409),
    (errors.SeveralDeleted("X", [1, 2]), 409),
    (errors.BackupMissing("X"), 409),
    (errors.BackupNotFound("X"), 409),
    (errors.NothingToUndo("X"), 409),
    (errors.RestoreRunning("X"), 409),
    (errors.FilesKept("X"), 409),
    (errors.InstallationUnclaimed(), 503),
    (errors.SignUpClosed(), 403),
    (account_errors.TooManyRequests(7), 429),
    (account_errors.LoginDelayed(7), 429),
    (RedisError("redis-7"), 503),
    (account_errors.InvalidCredentials(), 401),
    (account_errors.InvalidToken(), 401),
    (account_errors.InvalidLink(), 400),
    (account_errors.AdminRequired(), 403),
    (account_errors.UserExists("a@test.com"), 409),
    (account_errors.LastAdmin(), 409),
    (account_errors.UserGone(), 404),
    (RegistryFull(4), 503),
    (Http404(), 404),
    (PermissionDenied(), 403),
    (drf.NotAuthenticated(), 401),
    (drf.MethodNotAllowed("PUT"), 405),
    (drf.UnsupportedMediaType("text/plain"), 415),
    (drf.Throttled(wait=7), 429),
    (drf.ParseError(), 400),
    (drf.ValidationError("wrong"), 400),
    (ValidationError("wrong"), 400),
    (errors.SessionsRemain("Acme", [7]), 503),
    (errors.IdempotencyKeyInvalid(), 400),
    (errors.IdempotencyKeyReused(), 422),
    (errors.IdempotencyKeyInUse(), 409),
    (errors.SignUpUnknown(), 404),
    (errors.JobNotFound(), 404),
    (errors.ExportNotFound(), 404),
    (errors.JobWrongState(7, status="doing", why="x"), 409),
    (OperationalError("db-7"), 503),
    (InterfaceError("db-7"), 503),
    (TooManyFieldsSent("more than 1000"), 400),
    (SuspiciousOperation("secret words"), 400),
]
# They say that the program is wrong, and not the request.
BUGS = [
    NoTenant("This"),
    WrongTenant("This", belongs_to="org_1", active="org_2"),
    errors.ProvisioningInTransaction(),
    errors.MigrationUnknown("accounts", "0999", known=["0001_initial"]),
    # Of jobs, which nobody's request waits for.
    errors.JobRefused("x"),
    errors.JobWaits(is_over=False),
    errors.OtherCode(),
    errors.MigrationFailed("Acme", "x"),
    errors.SessionEnded("Acme"),
    errors.HistoryInconsistent("accounts.0002", lacks="accounts.0001"),
    errors.MigrationHalfDone("accounts.0002"),
    errors.HistoryUnreadable("Acme", "x"),
    # Of commands alone.
    errors.MasterStillThere(),
    errors.NothingToClaim(),
    errors.AdoptionRefused("org_acme", "a reason"),
    errors.CopyFailed("Acme", "a reason"),
    errors.FirstEditionUnreadable("org_acme", "a reason"),
    errors.CloneFailed("Acme", "a reason"),
    errors.ArchiveFailed("Acme", "a reason"),
    errors.BackupNeeded("x"),
    account_errors.NotNeutralised("logins"),
    errors.ProgramMissing("pg_dump"),
    errors.ProgramTooOld("pg_dump", found=15, needed=18),
    errors.ProgramTooNew("pg_restore", found=18, server=16),
    errors.DatabaseThere("Acme"),
    errors.RestoreFailed("Acme", "x"),
    errors.RestoreDeclined("Acme"),
    errors.RestoreUnfinished("Acme", "x"),
    errors.BackupRunning("Acme"),
    errors.BackupObstructed("Acme", "row security", "x"),
    errors.BackupFailed("Acme", "x"),
    errors.BackupLocked("Acme"),
    errors.BackupTookTooLong("Acme", "backup", seconds=1),
    errors.BackupTooLarge("Acme", "database.dump", most=1),
    errors.BackupStorageFailed("x", "y"),
    errors.BackupStorageUnknown("installation-x"),
    errors.FilesUnknown("installation-x"),
    errors.BackupNotVerified("Acme", "x"),
    errors.BackupInvalid("x"),
    errors.BackupDamaged("a/b", "x"),
    errors.BackupUnsigned("a/b"),
    errors.BackupKeyMissing("a/b", "age1x"),
    errors.BackupForeign("a/b", "x"),
    errors.BackupNewer("a/b", "x"),
    errors.BackupNotRestorable("a/b", "x"),
    errors.QueryTooSlow(8),
    errors.QueryTooLarge(1),
    errors.QueryWithoutRows(),
    errors.ExportExists("acme.zip"),
    errors.ExportFailed("Acme", "x"),
    errors.ExportTookTooLong("Acme", seconds=1),
    errors.ExportTooLarge("Acme", "its content", setting="EXPORT_MAX_BYTES", most=1),
    errors.MailServerUnavailable("x"),
    errors.MailRefused("x"),
    IntegrityError("duplicate key"),
    KeyError("x"),
    ValueError("x"),
]


def handled(error: Exception) -> Any:
    """The answer; authenticate_header is what DRF's view sets on such an error."""
    if isinstance(error, drf.NotAuthenticated):
        error.auth_header = 'Bearer realm="api"'  # type: ignore[attr-defined]
    return exceptions.handle(error, {})


def problems_of(error: Exception, status: int) -> list[str]:
    """Problems of the error's answer."""
    response = handled(error)
    if response is None:
        return ["it would be a 500"]
    data, headers = response.data, response.headers
    is_waiting = isinstance(error, errors.IdempotencyKeyInUse)
    facts = {
        f"status {response.status_code}": response.status_code == status,
        "shape": set(data) - {"fields"} == {"detail", "code"},
        "detail": isinstance(data["detail"], str) and bool(data["detail"]),
        "code": isinstance(data["code"], str),
        "fields": ("fields" in data) == (data["code"] == "invalid"),
        "Retry-After": ("Retry-After" in headers) == (status in (429, 503) or is_waiting),
        "WWW-Authenticate": ("WWW-Authenticate" in headers) == (status == 401),
    }
    return [what for what, fine in facts.items() if not fine]


def test_each_error_has_its_status_and_the_one_shape() -> None:
    found = {repr(error): problems_of(error, status) for error, status in MADE}
    assert {name: problems for name, problems in found.items() if problems} == {}


def test_a_bug_is_left_to_django() -> None:
    answers = {repr(error): (handled(error), exceptions.domain_answer(error)) for error in BUGS}
    assert {name for name, answer in answers.items() if answer != (None, None)} == set()


def test_every_error_of_ours_is_either_answered_or_a_bug_on_purpose() -> None:
    def below(kind: type[Exception]) -> set[type[Exception]]:
        return {kind}.union(*(below(each) for each in kind.__subclasses__()))

    known = {type(error) for error, _ in MADE} | {type(error) for error in BUGS}
    ours = below(errors.OrganizationError) | below(account_errors.AccountError)
    ours -= {errors.OrganizationError, account_errors.AccountError}
    modules = {errors.__name__, account_errors.__name__}
    ours = {kind for kind in ours if kind.__module__ in modules}
    assert ours <= known, ours - known


def test_the_servers_own_words_are_logged_and_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    response = handled(OperationalError('connection to "db-7" failed for user "orgmgmt"'))
    assert "db-7" not in str(response.data)
    assert "db-7" in caplog.text


def test_the_code_of_a_drf_error_is_kept() -> None:
    error = drf.PermissionDenied("No.", code="csrf_failed")
    assert handled(error).data == {"detail": "No.", "code": "csrf_failed"}


def test_validation_errors_of_every_shape_become_one_level_of_fields() -> None:
    detail = {"address": {"street": ["Too long."]}, "tags": {"0": ["Empty."]}}
    data = handled(drf.ValidationError(detail)).data
    assert data["fields"] == {"address.street": ["Too long."], "tags.0": ["Empty."]}
    assert data["detail"] == "address.street: Too long."

    items = handled(drf.ValidationError([{"email": ["Wrong."]}, {}])).data
    assert all("ErrorDetail" not in text for texts in items["fields"].values() for text in texts)

    model = handled(ValidationError({"email": ["Wrong."], "password": ["Weak.", "Short."]})).data
    assert model["fields"] == {"email": ["Wrong."], "password": ["Weak.", "Short."]}
    assert model["code"] == "invalid"

    whole = handled(drf.ValidationError("Send one thing or the other.")).data
    assert whole["detail"] == "Send one thing or the other."
    assert whole["fields"] == {"non_field_errors": ["Send one thing or the other."]}


def test_djangos_own_error_pages_have_the_one_shape() -> None:
    for response, status in (
        (handlers.bad_request(request, SuspiciousOperation("x")), 400),
        (handlers.bad_request(request, ValueError("x")), 400),
        (handlers.permission_denied(request, PermissionDenied("x")), 403),
        (handlers.not_found(request), 404),
        (handlers.server_error(request), 500),
        (handlers.csrf_failure(request, "x"), 403),
    ):
        assert response.status_code == status
        assert response["Content-Type"] == "application/json"
        content = json.loads(response.content)
        assert set(content) == {"detail", "code"}
        assert content["detail"].endswith(".")
