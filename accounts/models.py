"""Users and login sessions of one organization.

A tenant app: its tables exist in every organization's database and nowhere else.
"""

import unicodedata
import uuid
from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from organizations.tenancy.folding import folded

# In characters; longer ones cannot receive mail (RFC 3696, erratum 1690).
MAX_EMAIL_LENGTH = 254


def email_key(email: str) -> str:
    """The normalised form for comparing addresses: trimmed, case and compatibility forms folded.

    Computed in Python, since SQL's lower() depends on the server's locale.
    """
    return folded(email.strip())


def _key_before(email: str) -> str:
    """The key of an earlier version, which kept ı and i apart."""
    text = unicodedata.normalize("NFKC", email.strip()).casefold()
    return unicodedata.normalize("NFKC", text)


class UserManager(BaseUserManager["User"]):
    """Users by their e-mail address."""

    def addressed(self, email: str) -> models.QuerySet["User"]:
        """The user with the address; of two, the exact spelling first.

        An old row keeps the earlier version's key until the user logs in or changes the address, or
        for good if somebody else has the new key.
        """
        before, key = _key_before(email), email_key(email)
        if before == key:
            return self.filter(email_key=key)
        is_own = models.Case(models.When(email_key=before, then=0), default=1)
        return self.filter(email_key__in=(before, key)).order_by(is_own, "pk")

    def get_by_natural_key(self, username: str | None) -> "User":
        found = self.addressed(username or "").first()
        if found is None:
            raise User.DoesNotExist
        return found


class User(AbstractBaseUser):
    """A person in one organization. Not the AUTH_USER_MODEL: that is organizations.Staff."""

    email = models.EmailField(max_length=MAX_EMAIL_LENGTH)
    email_key = models.CharField(max_length=MAX_EMAIL_LENGTH, unique=True, editable=False)
    password = models.CharField("password", max_length=255, db_column="hashed_password")
    is_admin = models.BooleanField(default=False, db_default=False)
    is_active = models.BooleanField(default=True, db_default=True)
    created_at = models.DateTimeField(default=timezone.now, db_default=Now())
    # When the verification link was used.
    email_verified_at = models.DateTimeField(null=True, editable=False)
    # Incremented with each change of the address: invalidates links sent to the previous one.
    email_version = models.PositiveIntegerField(default=1, db_default=1, editable=False)
    # Logins are valid while they have this number: incrementing it ends them all.
    token_version = models.PositiveIntegerField(default=1, db_default=1, editable=False)
    last_login = None
    left_out_of_exports: ClassVar = {"password": "the hash of a password"}

    objects = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        db_table = "users"
        ordering = ("id",)

    def __str__(self) -> str:
        return self.email

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.email_key = email_key(self.email)
        if (fields := kwargs.get("update_fields")) is not None and "email" in fields:
            kwargs["update_fields"] = {*fields, "email_key"}
        super().save(*args, **kwargs)

    def clean(self) -> None:
        """Keep the address as typed, which AbstractBaseUser would rewrite."""


class LoginSession(models.Model):
    """One login on one device: a family of refresh tokens, or a browser's session.

    Every access token and cookie names its row, so ending the row ends them all. Only the newest
    refresh token is valid; using an older one means that somebody else has a copy, and ends the
    family.
    """

    class Kind(models.TextChoices):
        TOKEN = "token"  # noqa: S105 - a word, not a secret
        BROWSER = "browser"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="login_sessions")
    kind = models.CharField(max_length=10, choices=Kind)
    # The user's token_version when the password was checked.
    token_version = models.PositiveIntegerField(default=1, db_default=1)
    refresh_jti = models.UUIDField(null=True)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    left_out_of_exports: ClassVar = {"refresh_jti": "what makes a refresh token the valid one"}

    class Meta:
        db_table = "login_sessions"
        indexes = (models.Index(fields=["expires_at"], name="login_sessions_expires"),)

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"
