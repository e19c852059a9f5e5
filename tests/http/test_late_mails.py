"""Mails outlive the server that was asked for them. Not beside a worker that would take them."""

from pathlib import Path

from tests.organizations.helpers import manage

from .server import serving
from .test_links import RESET, messages


def test_mails_that_a_killed_server_was_asked_for_are_sent_by_the_next_worker(
    django_db_setup: None, tmp_path: Path
) -> None:
    name, email, mails = "Late Works", "cleo@wire.example", tmp_path / "mails"
    mails.mkdir()
    environment = {"EMAIL_URL": f"filemail://{mails}"}
    with serving(tmp_path / "log", WEB_CONCURRENCY="1", **environment) as running:
        assert running.sign_up(name, email=email).status_code == 201
        for _ in range(3):
            body = {"organization": name, "email": email}
            assert running.post(RESET, body).status_code == 202
        running.process.kill()
    assert not list(messages(mails))
    done = manage("worker", "--once", "--queues", "mails", **environment)
    assert done.returncode == 0, done.stderr
    subjects = sorted(str(each["Subject"]) for each in messages(mails))
    assert subjects == [
        f"Confirm your e-mail address for {name}",
        *[f"Set a new password for {name}"] * 3,
    ]
