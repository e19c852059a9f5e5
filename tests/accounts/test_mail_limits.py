"""Rate limits of mails sent by other actions: the action never fails because of them."""

from typing import Any

from django.test import Client
from pytest_django import Settings

from accounts.models import User
from organizations import lifecycle, tenancy
from organizations.models import Organization
from tests.conftest import PASSWORD, Company

from .helpers import client_of, json_of, send, unique_email
from .link_helpers import ask, sent


def receivers() -> list[str]:
    return [address for message in sent() for address in message.to]


def add(client: Client, email: str) -> Any:
    return json_of(
        send(client, "post", "/api/v1/users/", {"email": email, "password": PASSWORD}), 201
    )


def test_adding_users_is_limited_by_the_clients_mail_limit(
    by_admin: Client, throttles: Settings
) -> None:
    throttles.THROTTLE_MAIL_ADDRESS = "2/hour"
    emails = [unique_email("stranger") for _ in range(4)]
    for email in emails:
        add(by_admin, email)
    assert receivers() == emails[:2]


def test_adding_users_is_limited_by_the_organizations_mail_limit(
    alpha: Company, by_admin: Client, throttles: Settings
) -> None:
    throttles.THROTTLE_MAIL_ORGANIZATION = "2/hour"
    assert ask(alpha, "nobody@test.com").status_code == 202
    emails = [unique_email("stranger") for _ in range(2)]
    for email in emails:
        add(by_admin, email)
    assert receivers() == emails[:1]


def test_mails_about_one_user_are_limited_across_address_changes(
    alpha: Company, by_admin: Client, member: User, throttles: Settings
) -> None:
    throttles.THROTTLE_MAIL_ACCOUNT = "3/hour"
    moved = [unique_email("stranger") for _ in range(5)]
    by_member = client_of(alpha, member)
    for number, email in enumerate(moved):
        if number < 2:
            json_of(send(by_admin, "patch", f"/api/v1/users/{member.pk}/", {"email": email}))
        else:
            change = {"email": email, "current_password": PASSWORD}
            json_of(send(by_member, "patch", "/api/v1/me/", change))
        asked = [m.to[0] for m in sent() if m.subject.startswith("Confirm your e-mail address")]
        assert asked == moved[: min(number + 1, 3)]
    again = send(by_member, "post", "/api/v1/me/email/verification/")
    assert again.status_code == 429


def test_mails_to_one_recipient_are_limited_over_all_organizations(
    alpha: Company, beta: Company, by_admin: Client, throttles: Settings
) -> None:
    throttles.THROTTLE_MAIL_RECIPIENT = "3/hour"
    victim = unique_email("victim")
    with tenancy.override(beta.tenant):
        admin_of_beta = User.objects.get(email=beta.email)
    by_admin_of_beta = client_of(beta, admin_of_beta)
    for client in (by_admin, by_admin_of_beta):
        made = add(client, victim)
    assert ask(alpha, victim.upper()).status_code == 202
    assert ask(beta, victim).status_code == 429, "counted wherever it was asked for"
    assert ask(beta, unique_email("another")).status_code == 202
    assert receivers() == [victim] * 3
    assert by_admin_of_beta.delete(f"/api/v1/users/{made['id']}/").status_code == 204


def test_a_sign_up_beyond_the_recipients_limit_succeeds_without_a_mail(
    throttles: Settings,
) -> None:
    throttles.THROTTLE_MAIL_RECIPIENT = "1/hour"
    victim, made = unique_email("victim"), []
    for name in ("Mail Bomb One", "Mail Bomb Two"):
        body = {"organization_name": name, "email": victim, "password": PASSWORD}
        made.append(json_of(send(Client(), "post", "/org/create", body), 201)["id"])
    assert receivers() == [victim]
    for organization in Organization.objects.filter(pk__in=made):
        lifecycle.delete_organization(organization)
