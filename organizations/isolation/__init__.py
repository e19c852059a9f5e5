"""Attacks one test organization from another in every known way: `manage.py check_isolation`.

Makes two throw-away organizations; A tries to reach B in every way that is listed here. A tenant
app adds attempts in a module `isolation`, with ROWS, CALLS and KINDS as needed:

    from organizations.isolation import ADMIN, Call, Side
"""

from .calls import Call
from .kinds import Kind
from .outcome import Broken, Crossed
from .rows import ADMIN, MEMBER
from .sides import Side

__all__ = ["ADMIN", "MEMBER", "Broken", "Call", "Crossed", "Kind", "Side"]
