"""Creates django-tenants' tables, schemas and users, and a file of requests with their tokens.

    DJANGO_SETTINGS_MODULE=benchmarks.comparators.tenants.settings \\
        python -m benchmarks.tasks.tenants_schemas --count 100 --file FILE

Existing ones are left alone. The schemas are made by its own `save()`.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import django

from benchmarks.harness.contract import email_of
from benchmarks.harness.wrk import Request, write_requests
from benchmarks.names import seeded


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--file", type=Path, required=True)
    options = parser.parse_args(arguments)
    django.setup()
    from django.core.management import call_command
    from django.db import connection
    from django.utils import timezone
    from django_tenants.utils import schema_context

    from accounts import tokens
    from accounts.models import LoginSession, User
    from benchmarks.comparators.tenants.models import Client, Domain
    from organizations.tenancy import Tenant

    call_command("migrate_schemas", shared=True, interactive=False, verbosity=0)
    requests = []
    for number, name in enumerate(seeded(options.count), start=1):
        schema, host = f"tenant_{number:05d}", f"{name}.example"
        client = Client.objects.filter(schema_name=schema).first()
        if client is None:
            client = Client(schema_name=schema)
            client.save(verbosity=0)
        Domain.objects.get_or_create(domain=host, tenant=client, is_primary=True)
        with schema_context(schema):
            email = email_of(name)
            user = User.objects.filter(email=email).first() or User(email=email, is_admin=True)
            user.save()
            session = LoginSession.objects.create(
                user=user,
                kind=LoginSession.Kind.TOKEN,
                refresh_jti=None,
                expires_at=timezone.now() + timedelta(days=14),
            )
        access, _ = tokens.issue(session, Tenant(number, name))
        bearer = f"Bearer {access}"
        requests.append(Request("GET", "/api/v1/me/", host=host, authorization=bearer))
    connection.close()
    write_requests(options.file, requests)
    return 0


if __name__ == "__main__":
    sys.exit(main())
