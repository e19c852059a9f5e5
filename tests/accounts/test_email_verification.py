"""Tests of e-mail verification: when a link is sent, and what it confirms."""

import secrets
from collections.abc import Callable
from typing import Any

from django.core import mail
from django.test import Client
from pytest_django import Settings

from accounts import services
from accounts.link_tokens import Purpose
from accounts.models import User
from organizations import lifecycle as organization_services
from organizations import tenancy
from organizations.models import Organization
from tests.conftest import PASSWORD, Company

from .helpers import at_once, client_of, json_of, send, stored, unique_email
from .link_helpers import (
    ASK_AGAIN,
    assert_dead,
    confirm,
    link_in,
    sent,
    token_in,
    token_of,
    verify,
)

VERIFICATION = Purpose.VERIFICATION


def test_a_link_stays_dead_when_the_address_it_was_sent_to_comes_back(
    alpha: Company, person: Callable[..., User]
) -> None:
    for purpose in Purpose:
        for used in (True, False):
            user = person()
            token = token_of(alpha, user, purpose)
            show = verify if purpose is VERIFICATION else confirm
            if used:
                assert show(token).status_code == 204
            old = user.email
            with tenancy.override(alpha.tenant):
                for email in (unique_email("elsewhere"), old):
                    services.update_user(User.objects.get(pk=user.pk), email=email)
            assert_dead(show(token))


def test_a_link_confirms_the_address_once(alpha: Company, member: User) -> None:
    assert stored(alpha, member).email_verified_at is None
    token = token_of(alpha, member, VERIFICATION)
    assert verify(token).status_code == 204
    at = stored(alpha, member).email_verified_at
    assert at is not None
    assert json_of(client_of(alpha, member).get("/api/v1/me/"))["email_verified_at"] is not None
    assert_dead(verify(token))
    assert stored(alpha, member).email_verified_at == at


def test_of_twenty_uses_of_a_link_at_once_one_confirms(alpha: Company, member: User) -> None:
    token = token_of(alpha, member, VERIFICATION)
    answers = at_once(*[lambda: verify(token)] * 20)
    assert sorted(answer.status_code for answer in answers) == [204] + 19 * [400]


def test_a_reset_link_confirms_nothing_here(alpha: Company, member: User) -> None:
    assert_dead(verify(token_of(alpha, member, Purpose.RESET)))
    assert stored(alpha, member).email_verified_at is None


def test_a_link_is_dead_after_its_time_and_after_a_reset(
    alpha: Company, member: User, settings: Settings
) -> None:
    token = token_of(alpha, member, VERIFICATION)
    settings.EMAIL_VERIFICATION_HOURS = 0
    assert_dead(verify(token))
    settings.EMAIL_VERIFICATION_HOURS = 1
    assert confirm(token_of(alpha, member)).status_code == 204
    assert_dead(verify(token))


def test_a_new_address_is_not_confirmed_and_is_sent_a_link_of_its_own(
    alpha: Company, member: User
) -> None:
    old = token_of(alpha, member, VERIFICATION)
    assert verify(token_of(alpha, member, VERIFICATION)).status_code == 204
    assert_dead(verify(old))
    moved = unique_email("moved")
    client = client_of(alpha, member)
    answer = json_of(
        send(client, "patch", "/api/v1/me/", {"email": moved, "current_password": PASSWORD})
    )
    assert (answer["email"], answer["email_verified_at"]) == (moved, None)
    told, message = sent()
    assert (told.to, message.to) == ([member.email], [moved])
    assert link_in(message).startswith("http://testserver/api/email/verify/?token=")
    assert verify(token_in(message)).status_code == 204


def test_a_change_to_the_same_address_stays_confirmed_and_sends_nothing(
    alpha: Company, member: User
) -> None:
    assert verify(token_of(alpha, member, VERIFICATION)).status_code == 204
    client = client_of(alpha, member)
    answer = json_of(send(client, "patch", "/api/v1/me/", {"email": member.email}))
    assert answer["email_verified_at"] is not None
    assert sent() == []


def test_a_user_whom_an_admin_adds_or_moves_is_asked_to_confirm(
    alpha: Company, by_admin: Client
) -> None:
    first, second = unique_email("new"), unique_email("newer")
    made = json_of(
        send(by_admin, "post", "/api/v1/users/", {"email": first, "password": PASSWORD}), 201
    )
    path = f"/api/v1/users/{made['id']}/"
    json_of(send(by_admin, "patch", path, {"is_admin": True}))
    assert [message.to for message in sent()] == [[first]]
    json_of(send(by_admin, "patch", path, {"email": second}))
    assert [message.to for message in sent()][1:] == [[first], [second]]


def test_a_sign_up_asks_its_first_admin_to_confirm(staff_client: Client) -> None:
    name, email = f"Signed Up {secrets.token_hex(4)}", unique_email("first")
    body = {"organization_name": name, "email": email, "password": PASSWORD}
    path = "/api/v1/organizations/"
    answer: Any = staff_client.post(path, body, content_type="application/json")
    assert answer.status_code == 201, answer.content
    (message,) = sent()
    assert message.to == [email]
    assert message.subject == f"Confirm your e-mail address for {name}"
    assert verify(token_in(message)).status_code == 204
    organization_services.delete_organization(Organization.objects.get(pk=answer.json()["id"]))


def test_a_member_asks_for_a_new_link_until_the_address_is_confirmed(
    alpha: Company, member: User
) -> None:
    client = client_of(alpha, member)
    assert send(client, "post", ASK_AGAIN).status_code == 202
    (message,) = sent()
    assert message.to == [member.email]
    assert verify(token_in(message)).status_code == 204
    mail.outbox.clear()
    assert send(client, "post", ASK_AGAIN).status_code == 202
    assert sent() == []


def test_a_link_of_alpha_confirms_nobody_in_beta(
    alpha: Company, beta: Company, admin: User
) -> None:
    """Both first admins have the same id."""
    with tenancy.override(alpha.tenant):
        User.objects.filter(pk=admin.pk).update(email_verified_at=None)
    assert verify(token_of(alpha, admin, VERIFICATION)).status_code == 204
    with tenancy.override(beta.tenant):
        assert not User.objects.exclude(email_verified_at=None).exists()
    with tenancy.override(alpha.tenant):
        User.objects.filter(pk=admin.pk).update(email_verified_at=None)
