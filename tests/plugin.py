"""Gives each test process a PostgreSQL in a temporary folder before Django reads its settings.

Loaded by `-p tests.plugin` (pyproject.toml). The names and passwords are fixed when this is
imported, and the server starts with the first test that needs one: the controller of pytest-xdist
runs no test and starts none.
"""

import atexit
import os
import secrets
import shutil
import signal
import tempfile
from pathlib import Path

from cryptography.fernet import Fernet

from orgmgmt.embedded.postgres import EmbeddedPostgres
from tests.memory import fastest_folder

pytest_plugins = ["tests.secrecy"]

# A folder that PostgreSQL's user can enter, whoever runs the tests.
FOLDER = Path(tempfile.mkdtemp(prefix="orgmgmt-test-", dir=fastest_folder()))
FOLDER.chmod(0o711)
SERVER = EmbeddedPostgres(
    FOLDER,
    settings={
        # The data live as long as the test run.
        "fsync": "off",
        "full_page_writes": "off",
        "synchronous_commit": "off",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "autovacuum": "off",
        "checkpoint_timeout": "1d",
        "bgwriter_lru_maxpages": "0",
        # No processes beside the sessions for reading what lies in memory.
        "io_method": "sync",
        "max_wal_size": "256MB",
        "max_connections": "200",
        "shared_buffers": "64MB",
        # Small enough for a test to fill.
        "max_notify_queue_pages": "64",
    },
)
_owner = os.getpid()
# A shell has its background jobs ignore Ctrl-C, and what they start would too. Tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def environment() -> dict[str, str]:
    """The application's environment, with the database once the server has started."""
    return {
        "DJANGO_SETTINGS_MODULE": "orgmgmt.settings",
        # Plain http and static files from the finders; pytest-django turns settings.DEBUG off,
        # so that errors are answered as in production.
        "DEBUG": "on",
        "ALLOWED_HOSTS": "testserver,localhost,127.0.0.1",
        "SECRET_KEY": secrets.token_urlsafe(48),
        "CREDENTIAL_KEYS": Fernet.generate_key().decode(),
        "DATA_DIR": str(FOLDER),
        "SECURITY_CONTACT": "mailto:security@test.example",
        "MASTER_DB_HOST": str(SERVER.socket_dir),
        "MASTER_DB_NAME": "master_org_db",
        "MASTER_DB_USER": "orgmgmt",
        # The tests of the limits switch them on.
        "THROTTLES": "off",
        # Deletions drop at once, and leave nothing to the next test. The grace has its own tests:
        # tests/organizations/deleting.
        "ORG_DELETION_GRACE_DAYS": "0",
        # Several processes of the tests are at work on the same few organizations.
        "ORG_CONNECTION_LIMIT": "100",
    }


# What the developer's shell or .env has set is not what the tests are about.
for name in (
    "DATABASE_URL",
    "MASTER_DB_PASSWORD",
    "MASTER_DB_PORT",
    "MASTER_DB_SSLMODE",
    "CACHE_URL",
):
    os.environ.pop(name, None)
os.environ.update(environment())


@atexit.register
def remove() -> None:
    """Stop the server and delete its folder, but not in a fork."""
    if os.getpid() == _owner:
        if SERVER.is_initialised():
            SERVER.stop()
        shutil.rmtree(FOLDER, ignore_errors=True)
