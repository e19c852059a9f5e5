"""Resetting a forgotten password: the mail, its link and when the link is dead."""

from collections.abc import Callable
from typing import Any

from django.core import signing
from django.test import Client
from pytest_django import Settings

from accounts import services, sessions
from accounts.link_tokens import Purpose
from accounts.models import LoginSession, User
from organizations import lifecycle as organization_services
from organizations import tenancy
from tests.conftest import PASSWORD, Company

from .helpers import assert_refused, at_once, log_in, refresh, send, stored
from .link_helpers import (
    NEW_PASSWORD,
    RESET,
    ask,
    assert_dead,
    confirm,
    link_in,
    log_in_status,
    sent,
    token_in,
    token_of,
)


# --- Asking -------------------------------------------------------------------------------------
def test_a_mailed_link_sets_the_password(alpha: Company, member: User) -> None:
    assert ask(alpha, member.email).status_code == 202
    (message,) = sent()
    assert message.to == [member.email]
    assert message.subject == f"Set a new password for {alpha.name}"
    assert link_in(message).startswith("http://testserver/api/password-reset/confirm/?token=")
    assert confirm(token_in(message)).status_code == 204
    assert log_in_status(alpha, member.email, NEW_PASSWORD) == 200
    assert log_in_status(alpha, member.email, PASSWORD) == 401


def test_the_answer_is_the_same_whoever_has_the_address(
    alpha: Company, member: User, person: Callable[..., User]
) -> None:
    gone = person()
    with tenancy.override(alpha.tenant):
        services.update_user(gone, is_active=False)
    answers = [
        ask(alpha, address) for address in (member.email, gone.email, "nobody@x.com", "no address")
    ]
    assert {answer.status_code for answer in answers} == {202}
    assert {answer.content for answer in answers} == {
        b'{"detail":"If an account has this address, we have sent an e-mail with a link."}'
    }
    assert {frozenset(answer.headers) for answer in answers} == {frozenset(answers[0].headers)}
    assert [message.to for message in sent()] == [[member.email]]


def test_another_spelling_sends_the_link_to_the_stored_address(
    alpha: Company, person: Callable[..., User]
) -> None:
    """Full-width letters, case and a sharp s have the same key; a Cyrillic letter has another."""
    user = person("strasse@fold.example")
    for typed in ("STRASSE@fold.example", "straße@fold.example", "ｓｔｒａｓｓｅ@fold.example"):
        assert ask(alpha, typed).status_code == 202
        assert sent()[-1].to == [user.email], "the mail went to what was typed"
    assert len(sent()) == 3
    ask(alpha, "stra\u0455se@fold.example")
    assert len(sent()) == 3


def test_an_address_of_alpha_gets_no_link_from_beta(alpha: Company, beta: Company) -> None:
    assert ask(beta, alpha.email).status_code == 202
    assert sent() == []


def test_an_unknown_or_suspended_organization_is_answered_as_at_login(
    alpha: Company, suspended: Company
) -> None:
    body = {"organization": "No Such Company", "email": alpha.email}
    answer: Any = send(Client(), "post", RESET, body)
    assert (answer.status_code, answer.json()["code"]) == (404, "organization_not_found")
    answer = ask(suspended, suspended.email)
    assert (answer.status_code, answer.json()["code"]) == (403, "organization_suspended")
    assert sent() == []


def test_with_public_lookup_off_all_answers_are_the_same(
    alpha: Company, beta: Company, suspended: Company, settings: Settings
) -> None:
    settings.ORG_PUBLIC_LOOKUP, settings.LOGIN_FLOOR_MS = "off", 0
    body = {"organization": "No Such Company", "email": alpha.email}
    answers: list[Any] = [
        ask(alpha, alpha.email),
        send(Client(), "post", RESET, body),
        ask(suspended, suspended.email),
        ask(alpha, alpha.email, headers={"X-Organization": beta.tenant.slug}),
    ]
    assert {(answer.status_code, answer.content) for answer in answers} == {
        (202, answers[0].content)
    }
    assert [message.to for message in sent()] == [[alpha.email]]


def test_a_header_or_host_of_another_organization_is_refused(
    alpha: Company, beta: Company, member: User, settings: Settings
) -> None:
    token = token_of(alpha, member)
    header: dict[str, Any] = {"headers": {"X-Organization": beta.tenant.slug}}
    for answer in (ask(alpha, member.email, **header), confirm(token, **header)):
        assert (answer.status_code, answer.json()["code"]) == (403, "organization_mismatch")
    settings.ORG_BASE_DOMAIN, settings.ALLOWED_HOSTS = "example.com", [".example.com"]
    host: dict[str, Any] = {"headers": {"host": f"{beta.tenant.slug}.example.com"}}
    for answer in (ask(alpha, member.email, **host), confirm(token, **host)):
        assert (answer.status_code, answer.json()["code"]) == (403, "organization_mismatch")
    assert sent() == []


# --- Using --------------------------------------------------------------------------------------
def test_a_link_works_once(alpha: Company, member: User) -> None:
    token = token_of(alpha, member)
    assert confirm(token).status_code == 204
    assert_dead(confirm(token, "yet another passphrase"))
    assert log_in_status(alpha, member.email, NEW_PASSWORD) == 200


def test_of_twenty_uses_of_a_link_at_once_one_sets_the_password(
    alpha: Company, member: User
) -> None:
    token = token_of(alpha, member)
    passwords = [f"a good passphrase {number}" for number in range(20)]
    answers = at_once(*((lambda word=word: confirm(token, word)) for word in passwords))
    assert sorted(answer.status_code for answer in answers) == [204] + 19 * [400]
    (winner,) = (
        word for word, answer in zip(passwords, answers, strict=True) if answer.status_code == 204
    )
    assert log_in_status(alpha, member.email, winner) == 200


def test_a_reset_ends_every_login_and_confirms_the_address(alpha: Company, member: User) -> None:
    access, token_to_refresh = log_in(alpha, member)
    with tenancy.override(alpha.tenant):
        sessions.start(member, kind=LoginSession.Kind.BROWSER)
    assert confirm(token_of(alpha, member)).status_code == 204
    assert_refused(access)
    assert refresh(token_to_refresh).status_code == 401
    with tenancy.override(alpha.tenant):
        assert not LoginSession.objects.filter(user=member, ended_at=None).exists()
    assert stored(alpha, member).email_verified_at is not None


def test_a_link_from_before_a_change_is_dead(alpha: Company, person: Callable[..., User]) -> None:
    changes: list[dict[str, Any]] = [
        {"password": "set by an admin"},
        {"email": "moved@elsewhere.example"},
        {"is_active": False},
    ]
    for change in changes:
        user = person()
        token = token_of(alpha, user)
        with tenancy.override(alpha.tenant):
            services.update_user(user, **change)
        assert_dead(confirm(token))
    user = person()
    token = token_of(alpha, user)
    with tenancy.override(alpha.tenant):
        User.objects.filter(pk=user.pk).update(token_version=7)
    assert_dead(confirm(token))


def test_a_removed_users_link_is_dead_even_if_the_id_is_reused(
    alpha: Company, member: User, password_hash: str
) -> None:
    token = token_of(alpha, member)
    with tenancy.override(alpha.tenant):
        services.remove_user(User.objects.get(pk=member.pk))
    assert_dead(confirm(token))
    with tenancy.override(alpha.tenant):
        User.objects.create(pk=member.pk, email="other@x.example", password=password_hash)
    assert_dead(confirm(token))


def test_a_link_is_dead_after_its_time(alpha: Company, member: User, settings: Settings) -> None:
    token = token_of(alpha, member)
    settings.PASSWORD_RESET_MINUTES = 0
    assert_dead(confirm(token))
    settings.PASSWORD_RESET_MINUTES = 1
    assert confirm(token).status_code == 204


def test_a_link_of_alpha_reissued_for_beta_is_dead(
    alpha: Company, beta: Company, person: Callable[..., User], password_hash: str
) -> None:
    """As somebody with the signing key could: alpha's user, beta's id."""
    content = _content(token_of(alpha, person()))
    content["org"] = beta.organization.pk
    assert_dead(confirm(_signed(content)))


def test_a_link_of_one_user_reissued_for_another_is_dead(
    alpha: Company, person: Callable[..., User]
) -> None:
    ours, theirs = person(), person()
    content = _content(token_of(alpha, ours))
    content["user"] = theirs.pk
    assert_dead(confirm(_signed(content)))
    assert log_in_status(alpha, theirs.email, PASSWORD) == 200


def test_a_link_of_another_purpose_or_kind_is_dead(alpha: Company, member: User) -> None:
    access, token_to_refresh = log_in(alpha, member)
    for token in (
        token_of(alpha, member, Purpose.VERIFICATION),
        access,
        token_to_refresh,
        signing.dumps(_content(token_of(alpha, member))),
    ):
        assert_dead(confirm(token))


def test_a_damaged_token_is_a_dead_link(alpha: Company, member: User) -> None:
    token = token_of(alpha, member)
    for place in (0, len(token) // 2, len(token) - 1):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        assert_dead(confirm(changed))
    for none in ("x", "a.b.c", "..", "é", "a" * 1000, '{"org": 1}'):
        assert_dead(confirm(none))


def test_a_link_of_a_suspended_or_deleted_organization_is_refused(
    company: Callable[..., Company],
) -> None:
    made = company()
    with tenancy.override(made.tenant):
        user = User.objects.get()
    token = token_of(made, user)
    organization_services.suspend_organization(made.organization)
    answer = confirm(token)
    assert (answer.status_code, answer.json()["code"]) == (403, "organization_suspended")
    organization_services.resume_organization(made.organization)
    organization_services.delete_organization(made.organization)
    assert_dead(confirm(token))


def test_a_weak_password_is_refused_and_the_link_still_works(alpha: Company, member: User) -> None:
    token = token_of(alpha, member)
    for weak in ("short", "password123", "12345678901", member.email, "x" * 1025):
        answer = confirm(token, weak)
        assert answer.status_code == 400, answer.content
        assert set(answer.json()["fields"]) == {"new_password"}
    assert confirm(token).status_code == 204


def _content(token: str) -> dict[str, Any]:
    content: dict[str, Any] = _signer().unsign_object(token)
    return content


def _signed(content: dict[str, Any]) -> str:
    return _signer().sign_object(content)


def _signer() -> signing.TimestampSigner:
    return signing.TimestampSigner(salt="accounts.links.reset", sep=".")
