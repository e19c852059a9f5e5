"""Replaces a clone's addresses and passwords, so that none receives mail or opens anything.

organizations/cloning calls `neutralise` of each tenant app that has such a module.
"""

import secrets

from django.contrib.auth.hashers import make_password
from django.db.models import CharField, Value
from django.db.models.functions import Cast, Concat

from .errors import NotNeutralised
from .models import User

# Reserved by RFC 2606: it receives no mail.
DOMAIN = "example.invalid"


def neutralise() -> None:
    """Replace addresses and passwords in the active organization, the clone. Nobody uses it yet.

    Ids, rights and dates stay. Raises NotNeutralised.
    """
    # Random, so that no address that is there already has it.
    ending = f"-{secrets.token_hex(4)}@{DOMAIN}"
    address = Concat(Value("user-"), Cast("pk", CharField()), Value(ending))
    unusable = make_password(None)
    User.objects.update(email=address, email_key=address, password=unusable, email_verified_at=None)
    done = User.objects.filter(email=address, email_key=address, password=unusable)
    if done.count() != User.objects.count():
        raise NotNeutralised("addresses or passwords")
