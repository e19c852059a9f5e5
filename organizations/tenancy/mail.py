"""E-mail backend that sends no mail of a clone."""

import logging
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.core.mail.backends.base import BaseEmailBackend

from . import directory
from .context import peek

logger = logging.getLogger(__name__)


class EmailBackend(BaseEmailBackend):
    """Django's EMAIL_BACKEND, in front of settings.ORG_EMAIL_BACKEND, which sends.

    While a clone is active it drops every mail. It asks the master at each call.
    """

    def __init__(self, fail_silently: bool = False, **options: Any) -> None:
        super().__init__(fail_silently=fail_silently)
        backend = settings.ORG_EMAIL_BACKEND
        self._sending: BaseEmailBackend = get_connection(
            backend, fail_silently=fail_silently, **options
        )

    def open(self) -> bool | None:
        """As the sending one."""
        opened: bool | None = self._sending.open()
        return opened

    def close(self) -> None:
        """As the sending one."""
        self._sending.close()

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """How many were sent."""
        tenant = peek()
        if tenant is not None and directory.get().is_clone(tenant):
            facts = {"organization": tenant.organization_id, "mails": len(email_messages)}
            logger.info("mails of a clone not sent", extra=facts)
            return 0
        return self._sending.send_messages(email_messages) or 0
