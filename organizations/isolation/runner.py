"""Runs the isolation attempts one by one and yields a result for each."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from django.conf import settings
from django.db import connections
from django.test.utils import override_settings

from accounts import letters
from organizations import tenancy
from organizations.models import Organization
from organizations.tenancy import mailroom
from organizations.tenancy.mailroom import Order

# Importing a family registers its attempts.
from . import (
    credentials,
    exports,  # noqa: F401 - of the family of credentials
    http,
    in_turn,
    keep,
    keys,
    objects,
    relations,
    server,
    statements,
    suspended,
)
from .attempts import ATTEMPTS, Attempt
from .outcome import Broken, Crossed, Result, Word
from .stage import Stage

_FAMILIES = [
    each.FAMILY
    for each in (
        *(server, statements, credentials, http, in_turn, objects, relations, keep, keys),
        suspended,
    )
]
# The number of sessions requested in parallel.
_AT_ONCE = 4


def attempts() -> tuple[Attempt, ...]:
    """All attempts: the server's first, since the others depend on it."""
    return tuple(sorted(ATTEMPTS, key=lambda each: _FAMILIES.index(each.family)))


def run(stage: Stage, *, chosen: tuple[Attempt, ...] | None = None) -> Iterator[Result]:
    """Results of all attempts on all their subjects; the stage is reset between them."""
    with apart():
        for attempt in attempts() if chosen is None else chosen:
            try:
                subjects = attempt.over(stage) if attempt.over else [""]
            except Exception as error:
                yield _result(attempt, "", stage, "broken", _said(error))
                continue
            if not subjects:
                yield _result(attempt, "", stage, "broken", "nothing was found to try it on")
            elif attempt.aside:
                with ThreadPoolExecutor(_AT_ONCE) as pool:
                    yield from pool.map(lambda each, a=attempt: try_(a, each, stage), subjects)
            else:
                for subject in subjects:
                    yield try_(attempt, subject, stage)


def try_(attempt: Attempt, subject: str, stage: Stage) -> Result:
    """The result, also of an exception; B's rows are compared afterwards."""
    outcome: Word = "visible" if attempt.by_nature else "refused"
    how = ""
    try:
        how = attempt.run(stage, subject)
    except Crossed as error:
        outcome, how = "crossed", str(error)
    except Exception as error:
        outcome, how = "broken", _said(error)
    if not attempt.aside:
        try:
            stage.settle()
        except Crossed as error:
            outcome, how = "crossed", str(error)
        except Exception as error:
            outcome, how = "broken", f"{how}; then {_said(error)}"
    return _result(attempt, subject, stage, outcome, how)


def _result(attempt: Attempt, subject: str, stage: Stage, outcome: Word, how: str) -> Result:
    return Result(attempt.family, attempt.name, subject, outcome, stage.without_secrets(how))


def _said(error: Exception) -> str:
    """The error on one line."""
    if isinstance(error, Broken):
        return str(error)
    return f"{type(error).__name__}: {error}".replace("\n", " ")[:160]


class _AtOnce:
    """Writes each mail here and at once. A job would be run by the installation's own worker."""

    def take(self, order: Order) -> None:
        organization = Organization.objects.usable().filter(pk=order.organization_id).first()
        if organization is not None:
            with tenancy.override(organization.tenant):
                letters.deliver(order, admin_email=organization.admin_email)


@contextmanager
def apart() -> Iterator[None]:
    """Settings for this process while it attacks.

    Without throttles and mails, prints only the results, and renders pages without collectstatic.
    """
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    try:
        with (
            override_settings(
                EMAIL_BACKEND="django.core.mail.backends.locmem.EmailBackend",
                STORAGES={**settings.STORAGES, "staticfiles": plain},
                THROTTLES=False,
            ),
            mailroom.replaced(_AtOnce()),
        ):
            yield
    finally:
        logging.disable(level)
        connections.close_all()
