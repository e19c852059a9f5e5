"""`manage.py testserver`: refused, since `make run` serves for development."""

from .test import Command as Command
