"""Errors about user accounts, like organizations/errors.py: one class per cause."""

import math


class AccountError(Exception):
    """Base class of the errors about user accounts."""

    code = "account_error"


class InvalidCredentials(AccountError):
    """Wrong e-mail, wrong password or inactive user: the same answer for all three."""

    code = "invalid_credentials"

    def __init__(self) -> None:
        super().__init__("The e-mail or password is wrong, or the account is not active.")


class AdminRequired(AccountError):
    """The user is not an admin of the organization."""

    code = "admin_required"

    def __init__(self) -> None:
        super().__init__("Only the organization's admins may do this.")


class TooManyRequests(AccountError):
    """Rate limit exceeded; `seconds` until the next request is allowed."""

    code = "throttled"

    def __init__(self, seconds: float, what: str = "requests") -> None:
        self.seconds = max(1, math.ceil(seconds))
        unit = "second" if self.seconds == 1 else "seconds"
        super().__init__(f"Too many {what}. Try again in {self.seconds} {unit}.")


class LoginDelayed(TooManyRequests):
    """Too many failed logins for this account; none is tried until `seconds` have passed."""

    code = "login_delayed"

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds, "failed logins")


class InvalidToken(AccountError):
    """The token is malformed, expired, revoked, of the wrong kind or of another organization."""

    code = "invalid_token"

    def __init__(self) -> None:
        super().__init__("The token is invalid, expired or revoked. Log in again.")


class InvalidLink(AccountError):
    """A mailed link that is malformed, expired, used or somebody else's: one answer for all."""

    code = "invalid_link"

    def __init__(self) -> None:
        super().__init__("This link is invalid or has expired. Request a new one.")


class UserExists(AccountError):
    """The e-mail address is taken in this organization."""

    code = "user_exists"

    def __init__(self, email: str) -> None:
        super().__init__(f"A user with the e-mail address {email} already exists.")


class UserGone(AccountError):
    """The user was removed during this request."""

    code = "user_gone"

    def __init__(self) -> None:
        super().__init__("This user has been removed. Reload the list.")


class LastAdmin(AccountError):
    """The change would leave the organization without an active admin."""

    code = "last_admin"

    def __init__(self) -> None:
        super().__init__(
            "This is the organization's last active admin. Make another user an admin first."
        )


class NotNeutralised(AccountError):
    """A rule or a trigger of the database undoes the end of its users' logins and links, or a
    clone's new addresses and passwords."""

    code = "not_neutralised"

    def __init__(self, what: str) -> None:
        super().__init__(
            f"Something in the database, such as a rule or a trigger, keeps {what} of users."
        )
