"""Configures the app jobs."""

from django.apps import AppConfig


class JobsConfig(AppConfig):
    """Job progress and waiting sign-ups, beside Procrastinate's tables."""

    name = "organizations.jobs"
    label = "jobs"
    verbose_name = "Jobs"
