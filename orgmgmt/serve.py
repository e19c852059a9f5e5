"""`make run`: sets up and starts everything for development on one machine.

Starts the embedded PostgreSQL if no database is configured, migrates the master, creates the first
staff account, and serves until Ctrl-C. A deployment starts gunicorn with orgmgmt/gunicorn.py.
"""

import io
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import django
from django.core.exceptions import ImproperlyConfigured
from gunicorn.app.base import BaseApplication

_NEXT = """
Serving on {url} (Ctrl-C stops it). Try next:

  curl -X POST "{url}/org/create" \\
    -H "Content-Type: application/json" \\
    -d '{{
      "email": "admin@test.com",
      "password": "testpass123",
      "organization_name": "TestOrg"
    }}'

  {url}/docs           the API, with a form for each call
  {url}/api/v1/users/  the browsable API of an organization
  {url}/admin/         master records, for staff
"""
# Enough for most jobs on a slow machine; an interrupted one is resumed later.
_STOP_SECONDS = 10.0
# For running requests.
_GRACE_SECONDS = 5
# migrate_orgs's exit code after Ctrl-C.
_INTERRUPTED = 130


class _DevelopmentServer(BaseApplication):
    """gunicorn, as in production, but in this process."""

    def load_config(self) -> None:
        from django.conf import settings

        options = {
            "bind": settings.BIND,
            "worker_class": "orgmgmt.edge.worker.Worker",
            "workers": settings.WEB_CONCURRENCY,
            "threads": settings.WEB_THREADS,
            "timeout": 60,
            "graceful_timeout": _GRACE_SECONDS,
            "post_fork": _hurry,
            "worker_exit": _end_now,
            "control_socket_disable": True,
            "forwarder_headers": "",
            "loglevel": "warning",
            "when_ready": lambda server: print(_NEXT.format(url=_url()), flush=True),
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        from .wsgi import application

        return application


def _hurry(server: Any, worker: Any) -> None:
    # After the same time gunicorn's master kills it, and logs "Perhaps out of memory?".
    worker.cfg.set("graceful_timeout", _GRACE_SECONDS - 2)


def _end_now(server: Any, worker: Any) -> None:
    """Exit at once: Python would wait for the threads of running requests."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def main() -> None:
    """Set up, serve, and leave nothing running."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orgmgmt.settings")
    os.environ["DEVELOPMENT_SETUP"] = "on"
    try:
        django.setup()
    except ImproperlyConfigured as error:
        sys.exit(f"Configuration: {error}")
    from .runtime import database_ready

    _exit_if_port_taken()
    with database_ready():
        _prepare()
        # A second Ctrl-C during shutdown.
        with suppress(KeyboardInterrupt), _working():
            _DevelopmentServer().run()


@contextmanager
def _working() -> Iterator[None]:
    """Run `manage.py worker` as a separate process beside the server.

    If this process is killed, the worker exits by itself.
    """
    manage = Path(__file__).resolve().parent.parent / "manage.py"
    # Its own process group: Ctrl-C is for this process, which then stops the worker.
    worker = subprocess.Popen(  # noqa: S603
        [sys.executable, str(manage), "worker", "--with-parent"],
        process_group=0,
    )
    me = os.getpid()
    try:
        yield
    finally:
        if os.getpid() == me:  # gunicorn's forked workers come here too.
            _stop(worker)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _prepare() -> None:
    from django.core.management import CommandError, call_command
    from django.db import connections

    from organizations.postgres.warm import stock
    from organizations.provisioning import media
    from organizations.tenancy import pool

    try:
        call_command("migrate", verbosity=0, interactive=False)
        # In production it can be a disk that is not mounted yet: nothing creates it there.
        media.mark_first(make_folder=True)
        call_command("prepare_start")
    except CommandError as error:
        sys.exit(str(error))
    try:
        call_command("migrate_orgs", stdout=io.StringIO())
    except CommandError as error:
        if error.returncode == _INTERRUPTED:
            sys.exit(_INTERRUPTED)
        # A failed organization must not block the others.
        print(f"migrate_orgs: {error}", file=sys.stderr)
    _ensure_staff()
    # gunicorn forks: two processes on one connection would mix their results.
    connections.close_all()
    stock.close()
    pool.shared.close_idle()


def _ensure_staff() -> None:
    from django.db import IntegrityError

    from organizations.models import Staff

    if Staff.objects.exists():
        return
    password = secrets.token_urlsafe(12)
    try:
        Staff.objects.create_superuser("admin", None, password)
    except IntegrityError:
        return  # Another start in the same folder was faster and printed its password.
    print(
        "\nThe first staff account. The password is shown only once:\n"
        f"  user name  admin\n  password   {password}\n"
        "(to change it: .venv/bin/python manage.py changepassword admin)",
        flush=True,
    )


def _url() -> str:
    from django.conf import settings

    if settings.HOST in ("0.0.0.0", "::"):  # noqa: S104 - every address, this one too
        return f"http://127.0.0.1:{settings.PORT}"
    return f"http://{settings.BIND}"


def _exit_if_port_taken() -> None:
    from django.conf import settings

    family = socket.AF_INET6 if ":" in settings.HOST else socket.AF_INET
    try:
        socket.create_server((settings.HOST, settings.PORT), family=family).close()
    except OSError as error:
        sys.exit(
            f"Cannot listen on {settings.BIND}: {error.strerror}. "
            "Choose another HOST or PORT: PORT=8001 make run"
        )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)  # Ctrl-C before anything was started.
