"""Where Django looks for a project's admin classes; ours are in staff/."""

from .staff import audit, jobs, organizations, people  # noqa: F401 - registers them
