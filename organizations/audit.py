"""The audit trail's entries, in the master database."""

from collections.abc import Mapping

from .models import AuditEntry
from .tenancy.trail import Fact, Origin


class MasterTrail:
    """Writes what tenancy.trail is told."""

    def record(
        self,
        act: str,
        origin: Origin,
        *,
        organization_id: int | None,
        user_id: int | None,
        email: str,
        facts: Mapping[str, Fact],
    ) -> None:
        """Keep one entry. Raises what the database raises."""
        AuditEntry.objects.create(
            act=act,
            organization_id=organization_id,
            actor=origin.actor,
            actor_id=origin.actor_id,
            user_id=user_id,
            address=origin.address,
            request_id=origin.request_id,
            facts=dict(facts),
        )
