"""`manage.py dumpdata`, for the master or, with org_command, for one organization."""

from typing import Any

from django.core.management.base import CommandError
from django.core.management.commands.dumpdata import Command as DjangoCommand

from organizations import tenancy

_MASTER = "default"


class Command(DjangoCommand):
    """Django's own silently skips apps whose tables are in another database; this says so."""

    def handle(self, *app_labels: str, **options: Any) -> None:
        named = {label.split(".")[0] for label in app_labels}
        tenants = tenancy.tenant_labels()
        is_master = options["database"] == _MASTER
        if wrong := sorted(named & tenants if is_master else named - tenants):
            raise CommandError(f"{', '.join(wrong)}: {_ELSEWHERE[is_master]}")
        super().handle(*app_labels, **options)
        if is_master and not named:
            self.stderr.write(f"Skipped {', '.join(sorted(tenants))}: {_ELSEWHERE[True]}")


_ELSEWHERE = {
    True: "in the organizations' databases. For one: manage.py org_command NAME -- dumpdata.",
    False: "in the master, not in an organization's database. Run manage.py dumpdata.",
}
