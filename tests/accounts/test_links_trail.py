"""What the audit trail is told of links."""

from accounts.models import User
from organizations.models import AuditEntry
from tests.conftest import Company

from .link_helpers import ask, confirm, sent, token_in


def test_the_trail_tells_of_the_request_the_reset_and_the_refusal(
    alpha: Company, member: User
) -> None:
    last = AuditEntry.objects.order_by("-id").values_list("id", flat=True).first() or 0
    ask(alpha, member.email)
    token = token_in(sent()[0])
    confirm(token)
    confirm(token)
    confirm("nonsense")
    told = AuditEntry.objects.filter(id__gt=last, act__regex="^(password|link)").order_by("id")
    ours = alpha.organization.pk
    assert [(entry.act, entry.organization_id, entry.user_id) for entry in told] == [
        ("password.reset_requested", ours, None),
        ("password.reset", ours, member.pk),
        ("link.refused", ours, member.pk),
        ("link.refused", None, None),
    ]
    assert (told[1].actor, told[1].actor_id) == ("user", member.pk)
    assert not any(token in str(entry.facts) for entry in told)
