"""Django admin: jobs can be seen, cancelled and retried, and nothing else."""

import re
import secrets
from collections.abc import Iterator
from html import unescape

import pytest
from django.contrib.auth.models import Permission
from django.db import connections
from django.test import Client

from organizations.background import enqueueing
from organizations.jobs.models import Job, JobProgress
from organizations.models import AuditEntry, Organization, Staff
from tests.conftest import PASSWORD, Company
from tests.organizations.jobs.helpers import clear

LIST = "/admin/jobs/job/"


@pytest.fixture
def jobs(alpha: Company) -> Iterator[tuple[int, int]]:
    """A failed job of alpha, and a waiting one of the platform."""
    clear()
    enqueueing.clean_up(Organization.objects.filter(pk=alpha.organization.pk))
    failed = Job.objects.get().pk
    JobProgress.objects.create(job_id=failed, step="deleting", done=2, total=3, error="It <broke>")
    with connections["default"].cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = 'failed', attempts = 5")
    waiting = enqueueing.platform_job("reconcile")
    assert waiting is not None
    yield failed, waiting
    clear()


def page(client: Client, path: str, **query: str) -> str:
    response = client.get(path, query)
    assert response.status_code == 200, response
    return response.content.decode()


def run_action(client: Client, action: str, *numbers: int) -> str:
    data = {"action": action, "_selected_action": [str(number) for number in numbers]}
    response = client.post(LIST, data, follow=True)
    assert response.status_code == 200
    return unescape(response.content.decode())


def rows(html: str) -> dict[str, dict[str, str]]:
    """The list's cells, by kind."""
    found = {}
    for row in re.findall(r"<tr>.*?</tr>", html, re.S):
        cells = dict(re.findall(r'class="field-(\w+)[^"]*">(.*?)</t[dh]>', row, re.S))
        if "kind" in cells:
            found[cells["kind"]] = cells
    return found


def test_the_list_shows_state_tries_error_and_progress(
    staff_client: Client, jobs: tuple[int, int]
) -> None:
    found = rows(page(staff_client, LIST))
    failed, waiting = found["clean_up_organization"], found["reconcile"]
    assert (failed["organization"], failed["state"], failed["tries"]) == (
        "Acme Corp",
        "failed",
        "5",
    )
    assert (failed["progress"], failed["error"]) == ("deleting: 2 of 3", "It &lt;broke&gt;")
    assert (waiting["organization"], waiting["state"], waiting["tries"]) == ("–", "todo", "0")


@pytest.mark.usefixtures("jobs")
def test_the_list_is_searched_and_filtered(staff_client: Client) -> None:
    queries: list[tuple[dict[str, str], set[str]]] = [
        ({"q": "acme corp"}, {"clean_up_organization"}),
        ({"q": "no such thing"}, set()),
        ({"kind": "reconcile"}, {"reconcile"}),
        ({"status__exact": "failed"}, {"clean_up_organization"}),
    ]
    for query, kinds in queries:
        assert set(rows(page(staff_client, LIST, **query))) == kinds, query


def test_one_job_is_shown_with_its_history_and_cannot_be_saved(
    staff_client: Client, jobs: tuple[int, int]
) -> None:
    html = page(staff_client, f"{LIST}{jobs[0]}/change/")
    assert "deferred<br>" in html and "It &lt;broke&gt;" in html
    assert 'name="_save"' not in html
    for path in (f"{LIST}add/", f"{LIST}{jobs[0]}/delete/"):
        assert staff_client.get(path).status_code == 403


def test_a_job_is_cancelled_or_retried_where_that_can_be(
    staff_client: Client, jobs: tuple[int, int]
) -> None:
    failed, waiting = jobs
    said = run_action(staff_client, "retry", failed, waiting)
    assert f"Retried job {failed}." in said
    assert f"Job {waiting} is todo: only a failed job can be retried." in said
    job = Job.objects.get(pk=failed)
    assert (job.status, job.attempts) == ("todo", 0)

    assert f"Cancelled job {waiting}." in run_action(staff_client, "cancel", waiting)
    assert Job.objects.get(pk=waiting).status == "cancelled"
    entry = AuditEntry.objects.filter(act="staff.changed").latest("pk")
    assert (entry.facts["model"], entry.facts["id"]) == ("job", waiting)


def test_staff_with_the_view_permission_alone_change_nothing(jobs: tuple[int, int]) -> None:
    staff = Staff.objects.create_user(
        f"staff-{secrets.token_hex(4)}", None, PASSWORD, is_staff=True
    )
    client = Client()
    client.force_login(staff)
    try:
        assert client.get(LIST).status_code == 403
        staff.user_permissions.add(Permission.objects.get(codename="view_job"))
        assert "reconcile" in rows(page(client, LIST))
        run_action(client, "cancel", jobs[1])
        assert Job.objects.get(pk=jobs[1]).status == "todo"
    finally:
        staff.delete()


def test_the_engines_own_page_is_not_there(staff_client: Client) -> None:
    assert staff_client.get("/admin/procrastinate/procrastinatejob/").status_code == 404
