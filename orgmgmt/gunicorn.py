"""gunicorn's configuration: `gunicorn -c orgmgmt/gunicorn.py orgmgmt.wsgi`."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orgmgmt.settings")
from django.conf import settings  # noqa: E402 - reads the variable above

try:
    bind = settings.BIND
except ImproperlyConfigured as error:
    sys.exit(f"Configuration: {error}")

worker_class = "orgmgmt.edge.worker.Worker"
workers = settings.WEB_CONCURRENCY
threads = settings.WEB_THREADS
# For a worker whose main thread hangs; a request has REQUEST_TIMEOUT_SECONDS.
timeout = 60
graceful_timeout = 30
keepalive = 5
# The control socket would be in the home folder; a supervisor uses signals.
control_socket_disable = True
# A heartbeat on disk can stall a worker; memory cannot.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a memory disk
# Only TRUST_X_FORWARDED_PROTO decides whether to trust a proxy about the scheme.
secure_scheme_headers: dict[str, str] = {}
# No header moves the application below another path, even from 127.0.0.1: proxies pass it on.
forwarder_headers = ""


def on_starting(server: Any) -> None:
    """Stop with one sentence if the database is unusable; close the master to PUBLIC.

    Touches no organization's database, so that none can block the others. Workers finish
    interrupted sign-ups and deletions.
    """
    manage = Path(__file__).resolve().parent.parent / "manage.py"
    prepared = subprocess.run([sys.executable, str(manage), "prepare_start"], check=False)  # noqa: S603
    if prepared.returncode != 0:
        sys.exit(prepared.returncode)
