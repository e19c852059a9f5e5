from django.apps import AppConfig


class JobsConfig(AppConfig):
    """What Procrastinate's tables do not hold: progress, and sign-ups that wait."""

    name = "organizations.jobs"
    label = "jobs"
    verbose_name = "Jobs"
