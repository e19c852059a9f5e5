"""`manage.py create_admin NAME --email E`: creates or restores an organization's admin."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from accounts.errors import AccountError
from accounts.models import User, email_key
from accounts.services import create_user, update_user
from organizations import lifecycle, tenancy
from organizations.errors import OrganizationError
from organizations.management.acts import sentence

from .create_org import password_for


class Command(BaseCommand):
    """Restores access to an organization that has no admin left."""

    help = (
        "Create an admin of an organization. With --existing, make an existing user an active "
        "admin with the new password, logged out everywhere. For platform staff use "
        "createsuperuser."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="the organization's name, in any spelling")
        parser.add_argument("--email", required=True, help="the admin's address")
        parser.add_argument("--existing", action="store_true", help="the user already exists")
        parser.add_argument(
            "--password-stdin",
            action="store_true",
            help="read the password from standard input (or set ORG_ADMIN_PASSWORD); otherwise it "
            "is prompted for",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            organization = lifecycle.find_organization(options["name"])
            password = password_for("the admin", from_stdin=options["password_stdin"])
            with tenancy.override(organization.tenant):
                user = _make(options["email"], password, is_there=options["existing"])
        except ValidationError as error:
            raise CommandError(sentence(error)) from error
        except (OrganizationError, AccountError) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            facts = {"id": user.pk, "email": user.email, "organization": organization.name}
            self.stdout.write(json.dumps(facts, ensure_ascii=False))
        else:
            self.stdout.write(f"{user.email} is an admin of {organization.name}.")


def _make(email: str, password: str, *, is_there: bool) -> User:
    if not is_there:
        return create_user(email=email, password=password, is_admin=True)
    user = User.objects.filter(email_key=email_key(email)).first()
    if user is None:
        raise CommandError(
            f"There is no user with the address {email}. Omit --existing to create one."
        )
    return update_user(user, password=password, is_admin=True, is_active=True)
