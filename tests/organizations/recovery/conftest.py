"""Fixtures: servers whose masters are dumped and restored."""

from collections.abc import Iterator

import pytest

from orgmgmt.embedded.system import Account

from .estate import ENVIRONMENT, POSTGRES, Estate


@pytest.fixture(scope="package")
def estate() -> Iterator[Estate]:
    with Estate(environment=ENVIRONMENT) as made:
        yield made


@pytest.fixture(scope="package")
def graced() -> Iterator[Estate]:
    """A server that keeps deleted organizations, and archives its WAL. Its PostgreSQL's user owns
    the folder `own`."""
    environment = {**ENVIRONMENT, "ORG_DELETION_GRACE_DAYS": "30"}
    settings = {
        **POSTGRES,
        "full_page_writes": "on",
        "archive_mode": "on",
        "archive_command": "cp %p ../../own/archive/%f",
    }
    made = Estate(environment=environment, postgres_settings=settings)
    own = made.folder / "own"
    for folder in (own, own / "archive"):
        Account.of(made.postgres.data_dir / "postgres").make_private_folder(folder)
    with made:
        yield made
