"""/.well-known/security.txt, as RFC 9116 wants it."""

from datetime import UTC, datetime, timedelta

from django.test import Client, override_settings

PATH = "/.well-known/security.txt"


def fields(client: Client) -> list[tuple[str, str]]:
    response = client.get(PATH)
    assert response.status_code == 200
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    lines = response.content.decode().splitlines()
    return [(name, value) for name, _, value in (line.partition(": ") for line in lines)]


@override_settings(SECURITY_CONTACT=["mailto:a@b.example", "https://b.example/report"])
def test_it_names_every_contact_in_their_order(client: Client) -> None:
    contacts = [value for name, value in fields(client) if name == "Contact"]
    assert contacts == ["mailto:a@b.example", "https://b.example/report"]


def test_it_names_its_own_address_and_one_language(client: Client) -> None:
    found = dict(fields(client))
    assert found["Canonical"] == f"http://testserver{PATH}"
    assert found["Preferred-Languages"] == "en"


def test_it_expires_later_than_now_and_in_less_than_a_year(client: Client) -> None:
    expires = datetime.fromisoformat(dict(fields(client))["Expires"])
    now = datetime.now(UTC)
    assert now + timedelta(days=90) < expires < now + timedelta(days=365)


@override_settings(SECURITY_CONTACT=[])
def test_without_a_contact_there_is_none(client: Client) -> None:
    response = client.get(PATH)
    assert response.status_code == 404
    assert response.json()["code"] == "not_found"


def test_it_can_only_be_read(client: Client) -> None:
    assert client.head(PATH).status_code == 200
    assert client.post(PATH).status_code == 405
