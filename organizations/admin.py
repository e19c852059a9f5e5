"""Imports the admin classes from staff/, since Django looks for them here."""

from .staff import audit, backups, jobs, organizations, people  # noqa: F401 - registers them
