"""/.well-known/security.txt, as in RFC 9116."""

from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client, override_settings

pytestmark = pytest.mark.pure

PATH = "/.well-known/security.txt"


def fields(client: Client) -> list[tuple[str, str]]:
    response = client.get(PATH)
    assert response.status_code == 200
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    lines = response.content.decode().splitlines()
    return [(name, value) for name, _, value in (line.partition(": ") for line in lines)]


@override_settings(SECURITY_CONTACT=["mailto:a@b.example", "https://b.example/report"])
def test_it_has_contacts_in_order_its_address_and_its_expiry(client: Client) -> None:
    contacts = [value for name, value in fields(client) if name == "Contact"]
    assert contacts == ["mailto:a@b.example", "https://b.example/report"]
    found = dict(fields(client))
    assert found["Canonical"] == f"http://testserver{PATH}"
    assert found["Preferred-Languages"] == "en"
    now = datetime.now(UTC)
    in_days = (datetime.fromisoformat(found["Expires"]) - now) / timedelta(days=1)
    assert 90 < in_days < 365
    assert client.head(PATH).status_code == 200
    assert client.post(PATH).status_code == 405


@override_settings(SECURITY_CONTACT=[])
def test_without_a_contact_there_is_none(client: Client) -> None:
    response = client.get(PATH)
    assert response.status_code == 404
    assert response.json()["code"] == "not_found"
