"""Fixtures of the fuzz tests: organizations and threads."""

import secrets
from collections.abc import Iterator

import psycopg
import pytest
from pytest_django import DjangoDbBlocker

from organizations import lifecycle
from organizations.isolation import Side
from tests.conftest import PASSWORD
from tests.plugin import SERVER

from .base import World
from .units import Thread


@pytest.fixture
def world(_database: None, django_db_blocker: DjangoDbBlocker) -> Iterator[World]:
    """Four organizations, two threads and an event loop, which outlive the machine's runs."""
    sides = []
    for number in range(4):
        domain = f"fuzz-{number}-{secrets.token_hex(4)}.example"
        made = lifecycle.create_organization(
            name=domain, email=f"admin@{domain}", password=PASSWORD
        )
        sides.append(Side(made.organization, domain, PASSWORD))
    with psycopg.connect(**SERVER.superuser_parameters(), autocommit=True) as superuser:  # type: ignore[arg-type]
        world = World(sides, superuser, threads=[Thread("thread 1"), Thread("thread 2")])
        yield world
        world.end()
    for side in sides:
        lifecycle.delete_organization(side.organization)
