"""Writes a file of GET /api/v1/me/ requests with a token of each seeded organization's admin.

    python -m benchmarks.tasks.tokens --count 100 --file FILE

The logins are created directly in the organizations' databases: what a login costs is measured
elsewhere.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import django

from benchmarks.harness.wrk import Request, write_requests
from benchmarks.names import seeded


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--file", type=Path, required=True)
    options = parser.parse_args(arguments)
    django.setup()
    from accounts import sessions, tokens
    from accounts.models import LoginSession, User
    from organizations import tenancy
    from organizations.models import Organization

    by_name = {each.name: each for each in Organization.objects.usable()}
    requests = []
    for name in seeded(options.count):
        tenant = by_name[name].tenant
        with tenancy.override(tenant):
            user = User.objects.get()
            session = sessions.start(user, kind=LoginSession.Kind.TOKEN)
            access, _ = tokens.issue(session, tenant)
        requests.append(Request("GET", "/api/v1/me/", authorization=f"Bearer {access}"))
    write_requests(options.file, requests)
    return 0


if __name__ == "__main__":
    sys.exit(main())
