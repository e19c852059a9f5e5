"""Audit entries of mailed links."""

from accounts.models import User
from organizations.models import AuditEntry
from tests.conftest import Company

from .helpers import client_of, send
from .link_helpers import ASK_AGAIN, ask, confirm, sent, token_in, verify


def newest() -> int:
    return AuditEntry.objects.order_by("-id").values_list("id", flat=True).first() or 0


def test_the_trail_records_the_request_the_reset_and_refused_links(
    alpha: Company, member: User
) -> None:
    last = newest()
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


def test_the_trail_records_the_confirmation_and_its_mail(alpha: Company, member: User) -> None:
    last = newest()
    send(client_of(alpha, member), "post", ASK_AGAIN)
    verify(token_in(sent()[0]))
    told = AuditEntry.objects.filter(id__gt=last, act__startswith="email").order_by("id")
    assert [(entry.act, entry.organization_id, entry.user_id) for entry in told] == [
        ("email.verification_sent", alpha.organization.pk, member.pk),
        ("email.verified", alpha.organization.pk, member.pk),
    ]
