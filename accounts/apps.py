from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """The people of an organization, in the organization's own database."""

    name = "accounts"
