"""`manage.py loaddata`, for the master or, with org_command, for one organization."""

from typing import Any

from django.core.management.base import CommandError
from django.core.management.commands.loaddata import Command as DjangoCommand
from django.db import router

from organizations import tenancy


class Command(DjangoCommand):
    """Django's own silently skips models of another database; this refuses."""

    def save_obj(self, obj: Any) -> bool:
        model = type(obj.object)
        if not router.allow_migrate_model(self.using, model):
            where = "the master: manage.py loaddata"
            if model._meta.app_label in tenancy.tenant_labels():
                where = "an organization's database: manage.py org_command NAME -- loaddata"
            raise CommandError(f"{model._meta.label} belongs to {where}. Nothing was loaded.")
        saved: bool = super().save_obj(obj)
        return saved
