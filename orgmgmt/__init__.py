"""The project: settings, URLs and what a request meets before and after a view."""

__version__ = "0.1.0"
