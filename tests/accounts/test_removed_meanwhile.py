"""Users removed during a request by them or about them."""

import secrets
from collections.abc import Iterator

import pytest

from accounts import services, sessions
from accounts.errors import InvalidCredentials, UserGone
from accounts.models import LoginSession, User
from organizations import tenancy
from tests.conftest import PASSWORD, Company


@pytest.fixture
def gone(alpha: Company) -> Iterator[User]:
    """A removed user, as another request still has it in memory."""
    with tenancy.override(alpha.tenant):
        email = f"{secrets.token_hex(4)}@test.com"
        user = services.create_user(email=email, password=PASSWORD)
        User.objects.filter(pk=user.pk).delete()
        yield user


def test_whatever_is_under_way_for_a_removed_user_is_refused(gone: User) -> None:
    with pytest.raises(UserGone, match="has been removed"):
        services.update_user(gone, email="new@test.com")
    with pytest.raises(UserGone):
        services.change_password(gone, current_password=PASSWORD, new_password="another passphrase")
    with pytest.raises(InvalidCredentials):
        sessions.start(gone, kind=LoginSession.Kind.TOKEN)
