"""Creates the tables and users of the comparator `plain`, and a file of requests with their tokens.

    DJANGO_SETTINGS_MODULE=benchmarks.comparators.plain.settings \\
        python -m benchmarks.tasks.plain_users --count 100 --file FILE
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
    from django.core.management.commands.migrate import Command
    from django.utils import timezone

    from accounts import tokens
    from accounts.models import LoginSession, User
    from organizations.tenancy import Tenant

    # Django's own command: the product's migrates only the master's apps.
    call_command(Command(), "accounts", database="default", interactive=False, verbosity=0)
    requests = []
    for number, name in enumerate(seeded(options.count), start=1):
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
        requests.append(Request("GET", "/api/v1/me/", authorization=f"Bearer {access}"))
    write_requests(options.file, requests)
    return 0


if __name__ == "__main__":
    sys.exit(main())
