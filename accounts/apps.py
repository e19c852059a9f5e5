"""App config of accounts: an organization's users and logins."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """The users and logins of an organization, in its own database."""

    name = "accounts"
