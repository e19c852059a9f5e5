"""File storage: each organization has its own files, whatever name is asked for."""

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, default_storage
from django.db import models
from django.db.models.fields.files import FieldFile
from django.test.utils import isolate_apps
from pytest_django import Settings

from organizations import lifecycle, tenancy
from organizations.inspecting import checking
from organizations.inspecting.verdicts import Kind
from organizations.models import Organization
from organizations.provisioning.media import leave_mark
from organizations.tenancy import storage
from organizations.tenancy.checks import check_files
from tests.conftest import PASSWORD, Company


@pytest.fixture(autouse=True)
def media(settings: Settings, tmp_path: Path) -> Path:
    """A folder for the test's files."""
    settings.MEDIA_ROOT = tmp_path / "files"
    leave_mark()
    return tmp_path / "files"


@pytest.fixture
def document() -> Iterator[type[models.Model]]:
    """A tenant app's model with a file, as a developer writes it."""
    with isolate_apps("accounts"):
        meta = type("Meta", (), {"app_label": "accounts"})
        fields = {"file": models.FileField(upload_to="documents")}
        yield type("Document", (models.Model,), {"__module__": __name__, "Meta": meta, **fields})


def attached(document: type[models.Model], company: Company, name: str) -> FieldFile:
    """The file of an object that was loaded from the company."""
    instance = document.from_db(company.tenant.alias, ["id", "file"], [1, name])
    file: FieldFile = instance.file  # type: ignore[attr-defined]
    return file


def test_one_name_is_another_file_in_each_organization(alpha: Company, beta: Company) -> None:
    for company, content in ((alpha, b"alpha's"), (beta, b"beta's")):
        with tenancy.override(company.tenant):
            assert default_storage.save("plan.txt", ContentFile(content)) == "plan.txt"
    for company, content in ((alpha, b"alpha's"), (beta, b"beta's")):
        with tenancy.override(company.tenant):
            assert default_storage.listdir("") == ([], ["plan.txt"])
            with default_storage.open("plan.txt") as file:
                assert file.read() == content
    with tenancy.override(beta.tenant):
        default_storage.delete("plan.txt")
        assert not default_storage.exists("plan.txt")
    with tenancy.override(alpha.tenant):
        assert default_storage.exists("plan.txt")


def test_without_an_organization_nothing_is_stored_or_found(media: Path, alpha: Company) -> None:
    with tenancy.override(alpha.tenant):
        default_storage.save("plan.txt", ContentFile(b"alpha's"))
    for act in (
        lambda: default_storage.save("x.txt", ContentFile(b"x")),
        lambda: default_storage.open(f"{alpha.tenant.key}/plan.txt"),
        lambda: default_storage.exists("plan.txt"),
        lambda: default_storage.listdir(""),
        lambda: default_storage.delete("plan.txt"),
        lambda: default_storage.size("plan.txt"),
    ):
        with pytest.raises(tenancy.NoTenant):
            act()
    assert [each.name for each in media.iterdir() if each.is_dir()] == [alpha.tenant.key]


def test_no_name_leads_out_of_the_organizations_folder(
    media: Path, alpha: Company, beta: Company
) -> None:
    with tenancy.override(alpha.tenant):
        default_storage.save("secret.txt", ContentFile(b"alpha's"))
    key = alpha.tenant.key
    (media / f"{beta.tenant.key}0").mkdir()  # Begins as beta's folder does.
    (media / f"{beta.tenant.key}0" / "secret.txt").touch()
    ways_out = [
        "..",
        f"../{key}/secret.txt",
        f"documents/../../{key}/secret.txt",
        f"../{beta.tenant.key}0/secret.txt",
        str(media / key / "secret.txt"),
        "/etc/passwd",
        f"//{media}/{key}/secret.txt",
        "secret.txt\0.png",
    ]
    with tenancy.override(beta.tenant):
        for name in ways_out:
            for act in (
                default_storage.open,
                default_storage.exists,
                default_storage.listdir,
                default_storage.delete,
                default_storage.size,
                lambda name: default_storage.save(name, ContentFile(b"beta was here")),
            ):
                with pytest.raises(SuspiciousFileOperation):
                    act(name)
        # What only looks like a way out is a name like any other.
        for name in (f"..\\{key}\\secret.txt", f"..%2F{key}%2Fsecret.txt", "․․∕secret.txt", "~"):
            assert not default_storage.exists(name)
            default_storage.delete(name)
    assert (media / key / "secret.txt").read_bytes() == b"alpha's"
    assert sorted(each.name for each in media.rglob("*.*")) == ["secret.txt", "secret.txt"]


def test_a_key_that_is_none_has_no_folder(media: Path, alpha: Company) -> None:
    """An empty one would be the folder of all."""
    for key in ("", ".", "..", alpha.tenant.key.upper(), alpha.tenant.key + "0", "g" * 32):
        with (
            tenancy.override(replace(alpha.tenant, key=key)),
            pytest.raises(ValueError, match="32 hexadecimal digits"),
        ):
            default_storage.exists("plan.txt")
        with pytest.raises(ValueError, match="32 hexadecimal digits"):
            storage.remove(key)


def test_uploads_are_private_to_the_servers_user_and_take_long_names(
    media: Path, alpha: Company, document: type[models.Model]
) -> None:
    with tenancy.override(alpha.tenant):
        file = attached(document, alpha, "")
        file.save("計画書" * 80 + ".pdf", ContentFile(b"%PDF"), save=False)
        with file.open() as opened:
            assert opened.read() == b"%PDF"
        path = Path(file.path)
    assert path.relative_to(media / alpha.tenant.key).parts[0] == "documents"
    assert path.suffix == ".pdf"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((media / alpha.tenant.key).stat().st_mode) == 0o700


def test_the_file_of_alphas_object_is_refused_in_beta(
    alpha: Company, beta: Company, document: type[models.Model]
) -> None:
    """Its name is beta's as well."""
    for company in (alpha, beta):
        with tenancy.override(company.tenant):
            default_storage.save("documents/plan.txt", ContentFile(company.name.encode()))
    file = attached(document, alpha, "documents/plan.txt")
    for act in (
        lambda: file.read(),
        file.open,
        file.delete,
        lambda: file.size,
        lambda: file.path,
        lambda: file.save("other.txt", ContentFile(b""), save=False),
        lambda: storage.download(file),
    ):
        with (
            tenancy.override(beta.tenant),
            pytest.raises(tenancy.WrongTenant, match=f"belongs to {alpha.tenant.alias}"),
        ):
            act()
        with pytest.raises(tenancy.NoTenant):
            act()
    with tenancy.override(beta.tenant):
        assert default_storage.listdir("documents") == ([], ["plan.txt"])
    with tenancy.override(alpha.tenant):
        assert file.read() == alpha.name.encode()
        file.close()


def test_a_file_has_no_address_and_is_downloaded_as_a_file(
    alpha: Company, document: type[models.Model]
) -> None:
    with tenancy.override(alpha.tenant):
        name = default_storage.save("documents/page.html", ContentFile(b"<script>"))
        file = attached(document, alpha, name)
        with pytest.raises(tenancy.NoFileAddress, match="download"):
            _ = file.url
        # As forms and serializers ask.
        assert not hasattr(file, "url")
        response = storage.download(file)
    assert b"".join(response) == b"<script>"
    assert response["Content-Type"] == "application/octet-stream"
    assert response["Content-Disposition"] == 'attachment; filename="page.html"'
    response.close()


def test_no_url_of_the_project_serves_the_folder(alpha: Company, client: object) -> None:
    from django.test import Client

    with tenancy.override(alpha.tenant):
        default_storage.save("plan.txt", ContentFile(b"alpha's"))
    for path in ("/plan.txt", "/media/plan.txt", "/files/plan.txt", "/static/plan.txt"):
        for name in (path, path.replace("plan", f"{alpha.tenant.key}/plan")):
            assert Client().get(name).status_code == 404


# --- With the organization ------------------------------------------------------------------------
def test_files_go_with_their_organization_and_nobody_elses(media: Path, alpha: Company) -> None:
    gone = lifecycle.create_organization(
        name="Files Ltd", email="a@test.com", password=PASSWORD
    ).organization
    for tenant in (alpha.tenant, gone.tenant):
        with tenancy.override(tenant):
            default_storage.save("deep/er/plan.txt", ContentFile(b"x"))
    lifecycle.delete_organization(gone)
    assert [each.name for each in media.iterdir() if each.is_dir()] == [alpha.tenant.key]
    assert storage.remove(gone.key), "it may be called again"


def test_files_that_could_not_be_removed_are_named_and_tried_again(
    media: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = lifecycle.create_organization(
        name="Sticky Ltd", email="a@test.com", password=PASSWORD
    ).organization
    with tenancy.override(made.tenant):
        default_storage.save("plan.txt", ContentFile(b"x"))

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError("read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", refuse)
        lifecycle.delete_organization(made)
        made.refresh_from_db()
        assert made.status == Organization.Status.DELETED, "its name is free all the same"
        assert "files not removed" in [record.message for record in caplog.records]
        outcome = lifecycle.reconcile_organizations()
        assert outcome["failed"] == ["files of Sticky Ltd"]
        found = [each for each in checking.check() if each.subject == str(media / made.key)]
        [problem] = found[0].problems
        assert problem.kind == Kind.FILES
        assert "files of Sticky Ltd, which is deleted" in problem.what
        assert problem.remedy == "manage.py reconcile_orgs"
    assert lifecycle.reconcile_organizations()["undone"] == ["files of Sticky Ltd"]
    assert [each for each in media.iterdir() if each.is_dir()] == []


def test_files_of_an_unknown_organization_are_kept_and_named(media: Path) -> None:
    """The master may be older than they are."""
    (media / ("0a" * 16)).mkdir(parents=True)
    (media / "lost+found").mkdir()
    assert lifecycle.reconcile_organizations()["undone"] == []
    [found] = [each for each in checking.check() if str(media) in each.subject]
    assert found.subject == str(media / ("0a" * 16))
    assert "does not know" in found.problems[0].what
    assert "older backup" in found.problems[0].remedy
    assert (media / ("0a" * 16)).is_dir()


# --- System checks --------------------------------------------------------------------------------
def test_a_field_whose_files_are_on_the_wrong_side_is_an_error() -> None:
    for label, own, expected in (
        ("accounts", None, []),
        ("accounts", storage.TenantStorage(), []),
        ("accounts", FileSystemStorage(), ["tenancy.E006"]),
        ("accounts", lambda: FileSystemStorage(), ["tenancy.E006"]),
        ("organizations", None, ["tenancy.E007"]),
        ("organizations", FileSystemStorage(), []),
    ):
        with isolate_apps(label) as apps:
            assert apps is not None
            facts = {"__module__": __name__, "Meta": type("Meta", (), {"app_label": label})}
            for number, kind in enumerate((models.FileField, models.ImageField)):
                type(f"Note{number}", (models.Model,), {**facts, "file": kind(storage=own)})
            found = [message.id for message in check_files(list(apps.get_app_configs()))]
        assert found == expected * 2, (label, own)


def test_the_storage_can_be_written_into_a_migration() -> None:
    from django.db.migrations.writer import MigrationWriter

    text, _ = MigrationWriter.serialize(storage.TenantStorage())
    assert text == "organizations.tenancy.storage.TenantStorage()"
