"""System checks of the tenant apps' migrations and of the recorded histories."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.apps import AppConfig
from django.core import checks
from django.db import DatabaseError
from django.db.models import Count, Min

from organizations.errors import HistoryInconsistent
from organizations.migrating.engine import Engine
from organizations.models import Organization, SchemaVersion
from organizations.provisioning import code


@checks.register
def check_migrations(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> Iterable[checks.CheckMessage]:
    """The migrations must be consistent. A warning: makemigrations, the repair, runs checks."""
    if sentence := code.problem():
        yield checks.Warning(
            "The tenant apps' migrations are inconsistent: no organization can be created or "
            "migrated.",
            hint=sentence,
            id="organizations.W070",
        )


@checks.register(checks.Tags.database)
def check_histories(
    app_configs: Sequence[AppConfig] | None = None,
    databases: Sequence[str] | None = None,
    **kwargs: Any,
) -> Iterable[checks.CheckMessage]:
    """The recorded migrations of each organization must be consistent.

    With `check --database default`. Silent if the master has no tables yet.
    """
    if not databases or "default" not in databases or code.problem():
        return
    rows = Organization.objects.usable().exclude(fingerprint__in=("", code.current().fingerprint))
    try:
        counts = list(
            rows.order_by()
            .values_list("fingerprint")
            .annotate(number=Count("pk"), first=Min("slug"))
            .order_by("first")
        )
        known = SchemaVersion.objects.in_bulk([fingerprint for fingerprint, *_ in counts])
    except DatabaseError:
        return
    engine = Engine()
    for fingerprint, number, slug in counts:
        try:
            if fingerprint in known:
                engine.refuse_inconsistent(known[fingerprint].migrations)
        except HistoryInconsistent as error:
            yield checks.Warning(
                f"{number} organizations, such as {slug}, have an inconsistent migration history.",
                hint=str(error),
                id="organizations.W071",
            )
