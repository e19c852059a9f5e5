"""The Django project: settings, URLs, server and middleware around the views."""

__version__ = "0.1.0"
