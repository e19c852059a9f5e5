"""Configures the app accounts."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """The users and logins of an organization, in its own database."""

    name = "accounts"
