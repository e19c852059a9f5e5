"""`manage.py list_orgs [TEXT…]`: lists organizations."""

from argparse import ArgumentParser
from collections import Counter
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand
from django.db.models import Q

from organizations.document import Document
from organizations.models import Erasure, Organization
from organizations.naming import name_digest

_ROW = "{:>6}  {:<12}  {:<10}  {:<30}  {:<34}  {:<30}  {}"
_STATUS = [status.value for status in Organization.Status]


class Command(BaseCommand):
    """Lists the master's rows."""

    help = (
        "List organizations, optionally those with TEXT in their name, slug, database or first "
        "admin's address."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "texts", nargs="*", metavar="TEXT", help="also matches any spelling of a name"
        )
        parser.add_argument("--status", choices=_STATUS, help="only these")
        parser.add_argument("--all", action="store_true", help="include deleted ones")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def handle(self, *args: Any, **options: Any) -> None:
        organizations = Organization.objects.order_by("id")
        if options["status"]:
            organizations = organizations.filter(status=options["status"])
        elif not options["all"]:
            organizations = organizations.live()
        if options["texts"]:
            organizations = organizations.filter(_any_of(options["texts"]))
        document = Document(self.stdout.write, "organizations") if options["json"] else None
        if document is None:
            head = ("id", "status", "created", "slug", "database", "e-mail", "name")
            self.stdout.write(_ROW.format(*head))
        counts: Counter[str] = Counter()
        for each in organizations.iterator():
            counts[each.status] += 1
            if document is None:
                day = each.created_at.date().isoformat()
                facts = (each.pk, each.status, day, each.slug, each.database_name)
                said = _kind(each)
                self.stdout.write(_ROW.format(*facts, each.admin_email, f"{each.name}{said}"))
            else:
                document.add(_facts(each))
        if document is None:
            number = counts.total()
            self.stdout.write(f"{number} organization{'' if number == 1 else 's'}")
        else:
            document.end({"counts": {"organizations": counts.total(), **counts}})


def _any_of(texts: list[str]) -> Q:
    found = Q()
    for text in texts:
        found |= Q(name_digest=name_digest(text))
        for field in ("name", "slug", "database_name", "admin_email"):
            found |= Q(**{f"{field}__icontains": text})
    return found


def _kind(organization: Organization) -> str:
    """Added after the name of a clone or a read-only organization."""
    if organization.read_only_until is not None:
        until = f"{organization.read_only_until:%Y-%m-%d}"
        return f" (backup of organization {organization.cloned_from}, read-only until {until})"
    if organization.is_clone:
        return f" (clone of organization {organization.cloned_from})"
    return ""


def _facts(organization: Organization) -> dict[str, Any]:
    is_deleted = organization.status == Organization.Status.DELETED
    return {
        "id": organization.pk,
        "name": organization.name,
        "slug": organization.slug,
        "status": organization.status,
        "database": organization.database_name,
        "cloned_from": organization.cloned_from,
        "read_only_until": _moment(organization.read_only_until),
        "admin_email": organization.admin_email,
        "created_at": organization.created_at.isoformat(),
        "kept_until": _moment(organization.kept_until),
        **({"erasure": _erasure(organization)} if is_deleted else {}),
    }


def _erasure(organization: Organization) -> dict[str, str | None] | None:
    """When it was erased, and until when its backups outlive it; None if earlier code did."""
    erased = Erasure.objects.filter(organization_key=organization.key).first()
    if erased is None:
        return None
    names = ("deleted_at", "erased_at", "backups_until", "backups_gone_at")
    return {name: _moment(getattr(erased, name)) for name in names}


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
