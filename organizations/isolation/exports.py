"""Isolation attempts: links to exports, which open nothing without the login they were given to."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from django.http.response import HttpResponseBase
from django.test import Client
from django.urls import reverse

from organizations import tenancy
from organizations.background import exports

from . import rows
from .attempts import attempt
from .credentials import FAMILY, refusal
from .outcome import Broken, Crossed
from .sides import Side
from .stage import Stage


@contextmanager
def _exported(side: Side, name: str) -> Iterator[str]:
    """The token of a link to an export of this side's, for a login that both sides have."""
    with tenancy.override(side.tenant):
        exports.new_path(name).write_text(side.domain)
        token = exports.link(exports.Export("ready", name), login=rows.TOKEN_SESSION)
    try:
        yield token
    finally:
        with tenancy.override(side.tenant):
            exports.keep_only(secrets.token_hex(16))


def _get(client: Client, token: str) -> HttpResponseBase:
    response: HttpResponseBase = client.get(reverse("export-file", kwargs={"token": token}))
    return response


@attempt(FAMILY, "A's login with B's link to an export, and B's with A's")
def export_links(stage: Stage, subject: str) -> str:
    name = secrets.token_hex(16)  # The same on both sides, as the id of the login.
    with _exported(stage.ours, name) as own, _exported(stage.theirs, name) as other:
        answer = _get(stage.ours.by_token(), own)
        if answer.status_code != 200 or not answer.streaming:
            raise Broken(f"its own link is answered {answer.status_code} too")
        answer.close()
        how = set()
        for side, token in ((stage.ours, other), (stage.theirs, own)):
            answer = _get(side.by_token(), token)
            if answer.streaming:
                answer.close()
                raise Crossed("a file was answered")
            how.add(refusal(answer, stage.theirs))  # type: ignore[arg-type]
    return ", ".join(sorted(how))
