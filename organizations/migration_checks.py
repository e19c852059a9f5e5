"""System checks of the tenant apps' migrations and of the recorded histories."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.apps import AppConfig
from django.core import checks
from django.db import DatabaseError
from django.db.models import Count, Min

from .errors import HistoryInconsistent
from .provisioning import code


@checks.register
def check_migrations(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> Iterable[checks.CheckMessage]:
    """They can be applied at all. A warning: makemigrations, which repairs it, runs checks too."""
    if sentence := code.problem():
        yield checks.Warning(
            "No organization can be made or migrated by the tenant apps' migrations.",
            hint=sentence,
            id="organizations.W070",
        )


@checks.register(checks.Tags.database)
def check_histories(
    app_configs: Sequence[AppConfig] | None = None,
    databases: Sequence[str] | None = None,
    **kwargs: Any,
) -> Iterable[checks.CheckMessage]:
    """By the master's record, what organizations have is what a database can have come to.

    With `check --database default`. Says nothing where the master has no tables yet.
    """
    if not databases or "default" not in databases or code.problem():
        return
    from .migrating.engine import Engine
    from .models import Organization, SchemaVersion

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
                f"{number} organizations, such as {slug}, have migrations that do not fit.",
                hint=str(error),
                id="organizations.W071",
            )
