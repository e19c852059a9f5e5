"""A change of the JWT signing keys in the environment is recorded at the next start."""

from django.core.management import call_command
from pytest_django import Settings

from accounts.signing_keys import key_id
from organizations.models import AuditEntry

OLD, NEW = "old signing key " * 4, "new signing key " * 4


def told() -> list[object]:
    entries = AuditEntry.objects.filter(act="signing_keys.changed").order_by("id")
    return [entry.facts for entry in entries]


def test_each_key_change_is_recorded_once_with_key_ids(settings: Settings) -> None:
    settings.SIGNING_KEYS = [OLD]
    call_command("prepare_start")
    before = told()
    assert before[-1] == {"keys": [key_id(OLD)]}
    call_command("prepare_start")
    assert told() == before
    settings.SIGNING_KEYS = [NEW, OLD]
    call_command("prepare_start")
    assert told() == [*before, {"keys": [key_id(NEW), key_id(OLD)]}]
