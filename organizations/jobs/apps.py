from django.apps import AppConfig


class JobsConfig(AppConfig):
    """What Procrastinate's tables do not hold: progress, and sign-ups that wait."""

    name = "organizations.jobs"
    label = "jobs"
    verbose_name = "Jobs"

    def ready(self) -> None:
        from organizations.tenancy import mailroom

        from . import checks  # noqa: F401 - registers the system checks
        from .mails import MailJobs

        mailroom.install(MailJobs())
