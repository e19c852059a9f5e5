"""Flows of an organization's own users."""

import secrets
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from tests.faults.attempts import DONE, NOTHING, Attempt, command, without_trace
from tests.faults.world import PASSWORD, World

_NEW_PASSWORD = "another good passphrase"


def _email() -> str:
    return f"u{secrets.token_hex(6)}@tenant.example"


def _somebody(world: World) -> tuple[int, str]:
    """Make a user who is an admin, with password PASSWORD; its id and address."""
    email = _email()
    ((made,),) = world.tenant_rows(
        "INSERT INTO users (email, email_key, hashed_password, is_admin) "
        "SELECT %s, %s, hashed_password, true FROM users ORDER BY id LIMIT 1 RETURNING id",
        (email, email),
    )
    return int(made), email


def _logins(world: World, pk: int) -> int:
    query = "SELECT count(*) FROM login_sessions WHERE user_id = %s AND ended_at IS NULL"
    return int(world.tenant_rows(query, (pk,))[0][0])


def _more_logins(world: World, pk: int) -> Callable[[], str]:
    return lambda: DONE if _logins(world, pk) else NOTHING


def _fewer_logins(world: World, pk: int) -> Callable[[], str]:
    return lambda: NOTHING if _logins(world, pk) else DONE


# --- Logins -------------------------------------------------------------------------------------
def login(world: World) -> Attempt:
    pk, email = _somebody(world)
    body = {"organization": world.tenant, "email": email, "password": PASSWORD}
    return Attempt(lambda: world.ask("POST", "/api/v1/auth/token/", body), _more_logins(world, pk))


def admin_login(world: World) -> Attempt:
    pk, email = _somebody(world)
    path = f"/admin/login?{urlencode({'organization_name': world.tenant})}"
    body = {"email": email, "password": PASSWORD}
    return Attempt(lambda: world.ask("POST", path, body), _more_logins(world, pk))


def browser_login(world: World) -> Attempt:
    pk, email = _somebody(world)
    submit = world.open_form("/api/login/")
    fields = {"organization": world.tenant, "email": email, "password": PASSWORD}
    return Attempt(lambda: submit(fields), _more_logins(world, pk))


def browser_logout(world: World) -> Attempt:
    pk, email = _somebody(world)
    fields = {"organization": world.tenant, "email": email, "password": PASSWORD}
    answer = world.open_form("/api/login/")(fields)
    if not answer.done:
        raise RuntimeError(f"No login: {answer.words}")
    cookies = str(answer.headers["cookies"])
    submit = world.open_form("/api/login/", cookies=cookies, to="/api/logout/")
    return Attempt(lambda: submit({}), _fewer_logins(world, pk))


def refresh(world: World) -> Attempt:
    pk, email = _somebody(world)
    body = {"refresh": world.token(email)["refresh"]}
    query = "SELECT refresh_jti FROM login_sessions WHERE user_id = %s"
    before = world.tenant_rows(query, (pk,))
    return Attempt(
        lambda: world.ask("POST", "/api/v1/auth/token/refresh/", body),
        lambda: NOTHING if world.tenant_rows(query, (pk,)) == before else DONE,
    )


def logout(world: World) -> Attempt:
    pk, email = _somebody(world)
    token = world.token(email)["access"]
    return Attempt(
        lambda: world.ask("POST", "/api/v1/auth/logout/", {}, token=token),
        _fewer_logins(world, pk),
    )


# --- Links --------------------------------------------------------------------------------------
_TOKEN = (
    "from accounts import link_tokens, models; "
    "print(link_tokens.token_for(models.User.objects.get(pk={}), "
    "purpose=link_tokens.Purpose.{}))"
)


def _link(world: World, pk: int, purpose: str) -> str:
    """The token that a mail would carry."""
    code = _TOKEN.format(pk, purpose)
    told = command(world, "org_command", world.tenant, "shell", "--verbosity", "0", "-c", code)
    if not told.done:
        raise RuntimeError(f"No link: {told.words}")
    return told.words.split()[-1]


def _reset(world: World) -> tuple[str, Callable[[], str]]:
    pk, _ = _somebody(world)
    query = "SELECT hashed_password FROM users WHERE id = %s"
    before = world.tenant_rows(query, (pk,))
    return _link(
        world, pk, "RESET"
    ), lambda: NOTHING if world.tenant_rows(query, (pk,)) == before else DONE


def password_reset(world: World) -> Attempt:
    token, effect = _reset(world)
    body = {"token": token, "new_password": _NEW_PASSWORD}
    return Attempt(lambda: world.ask("POST", "/api/v1/auth/password-reset/confirm/", body), effect)


def password_reset_page(world: World) -> Attempt:
    token, effect = _reset(world)
    page = "/api/password-reset/confirm/"
    submit = world.open_form(f"{page}?token={token}", to=page, success=(200,))
    fields = {"token": token, "new_password": _NEW_PASSWORD, "again": _NEW_PASSWORD}
    return Attempt(lambda: submit(fields), effect)


def _asked(world: World) -> tuple[str, Callable[[], str]]:
    """A request's id, and whether its entry is in the trail."""
    request_id = f"reset-{secrets.token_hex(8)}"
    query = "SELECT 1 FROM audit_entries WHERE request_id = %s AND act = 'password.reset_requested'"
    return request_id, lambda: DONE if world.rows(query, (request_id,)) else NOTHING


def reset_asked(world: World) -> Attempt:
    request_id, effect = _asked(world)
    body = {"organization": world.tenant, "email": _email()}
    path, taken = "/api/v1/auth/password-reset/", (202,)
    return Attempt(
        lambda: world.ask("POST", path, body, success=taken, request_id=request_id), effect
    )


def reset_asked_page(world: World) -> Attempt:
    request_id, effect = _asked(world)
    submit = world.open_form("/api/password-reset/", success=(200,), request_id=request_id)
    fields = {"organization": world.tenant, "email": _email()}
    return Attempt(lambda: submit(fields), effect)


def verification_asked(world: World) -> Attempt:
    _, email = _somebody(world)
    token = world.token(email)["access"]
    path = "/api/v1/me/email/verification/"
    return without_trace(lambda: world.ask("POST", path, {}, token=token, success=(202,)))


def _verification(world: World) -> tuple[str, Callable[[], str]]:
    pk, _ = _somebody(world)
    query = "SELECT 1 FROM users WHERE id = %s AND email_verified_at IS NOT NULL"
    token = _link(world, pk, "VERIFICATION")
    return token, lambda: DONE if world.tenant_rows(query, (pk,)) else NOTHING


def email_verified(world: World) -> Attempt:
    token, effect = _verification(world)
    body = {"token": token}
    return Attempt(lambda: world.ask("POST", "/api/v1/auth/email/verify/", body), effect)


def email_verified_page(world: World) -> Attempt:
    token, effect = _verification(world)
    page = "/api/email/verify/"
    submit = world.open_form(f"{page}?token={token}", to=page, success=(200,))
    return Attempt(lambda: submit({"token": token}), effect)


# --- People -------------------------------------------------------------------------------------
def password(world: World) -> Attempt:
    pk, email = _somebody(world)
    token = world.token(email)["access"]
    query = "SELECT hashed_password FROM users WHERE id = %s"
    before = world.tenant_rows(query, (pk,))
    good = (
        "SELECT 1 FROM login_sessions s JOIN users u ON u.id = s.user_id WHERE u.id = %s AND "
        "s.ended_at IS NULL AND s.token_version = u.token_version AND s.id = %s"
    )
    ((session,),) = world.tenant_rows("SELECT id FROM login_sessions WHERE user_id = %s", (pk,))

    def effect() -> str:
        if world.tenant_rows(query, (pk,)) == before:
            return NOTHING
        still = world.tenant_rows(good, (pk, session))
        return "changed, and the old login is good" if still else DONE

    body = {"current_password": PASSWORD, "new_password": _NEW_PASSWORD}
    return Attempt(lambda: world.ask("POST", "/api/v1/me/password/", body, token=token), effect)


def me_changed(world: World) -> Attempt:
    pk, email = _somebody(world)
    token = world.token(email)["access"]
    body = {"email": f"new-{email}", "current_password": PASSWORD}
    return Attempt(
        lambda: world.ask("PATCH", "/api/v1/me/", body, token=token),
        _when_email_is(world, pk, f"new-{email}"),
    )


def _when_email_is(world: World, pk: int, wanted: str) -> Callable[[], str]:
    query = "SELECT 1 FROM users WHERE id = %s AND email = %s AND email_key = %s"
    return lambda: DONE if world.tenant_rows(query, (pk, wanted, wanted)) else NOTHING


def user_created(world: World) -> Attempt:
    email = _email()
    body = {"email": email, "password": PASSWORD}
    query = "SELECT 1 FROM users WHERE email = %s"
    return Attempt(
        lambda: _as_admin(world, "POST", "/api/v1/users/", body),
        lambda: DONE if world.tenant_rows(query, (email,)) else NOTHING,
    )


def user_replaced(world: World) -> Attempt:
    pk, email = _somebody(world)
    body = {"email": f"new-{email}", "is_active": True}
    return Attempt(
        lambda: _as_admin(world, "PUT", f"/api/v1/users/{pk}/", body),
        _when_email_is(world, pk, f"new-{email}"),
    )


def user_changed(world: World) -> Attempt:
    pk, _ = _somebody(world)
    query = "SELECT 1 FROM users WHERE id = %s AND is_active"
    return Attempt(
        lambda: _as_admin(world, "PATCH", f"/api/v1/users/{pk}/", {"is_active": False}),
        lambda: NOTHING if world.tenant_rows(query, (pk,)) else DONE,
    )


def user_removed(world: World) -> Attempt:
    pk, _ = _somebody(world)
    query = "SELECT 1 FROM users WHERE id = %s"
    return Attempt(
        lambda: _as_admin(world, "DELETE", f"/api/v1/users/{pk}/", None),
        lambda: NOTHING if world.tenant_rows(query, (pk,)) else DONE,
    )


def _as_admin(world: World, method: str, path: str, body: dict[str, Any] | None) -> Any:
    return world.ask(method, path, body, token=world.admin_token)
