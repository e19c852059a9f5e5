"""`manage.py testserver`, which is not how this project is tried out."""

from .test import Command as Command
