"""/api/v1/organizations/ for staff, and /api/v1/organization/ for an organization's own users."""

from typing import Any

from django.test import Client

from organizations import lifecycle
from organizations.models import Organization
from organizations.secrets import unseal
from tests.conftest import PASSWORD, Company

PATH = "/api/v1/organizations/"
STAFF_FIELDS = {
    "id",
    "name",
    "slug",
    "admin_email",
    "status",
    "status_reason",
    "status_message",
    "kept_until",
    "cloned_from",
    "read_only_until",
    "server",
    "database_name",
    "created_at",
}


def get(client: Client, path: str, **query: str) -> dict[str, Any]:
    response = client.get(path, query)
    assert response.status_code == 200, response.content
    answer: dict[str, Any] = response.json()
    return answer


def bearer(company: Company, client: Client) -> dict[str, str]:
    return {"Authorization": f"Bearer {company.token(client)}"}


def sign_up(name: str, **changes: str) -> dict[str, str]:
    fine = {"organization_name": name, "email": "boss@test.com", "password": PASSWORD}
    return fine | changes


# --- Staff --------------------------------------------------------------------------------------
def test_staff_list_all_organizations_by_pages(
    staff_client: Client, alpha: Company, beta: Company
) -> None:
    answer = get(staff_client, PATH, page_size="1")
    assert answer["count"] >= 2
    assert len(answer["results"]) == 1
    assert set(answer["results"][0]) == STAFF_FIELDS


def test_staff_search_filter_and_order(staff_client: Client, alpha: Company, beta: Company) -> None:
    found = get(staff_client, PATH, search="acme", status="active", ordering="-id")["results"]
    numbers = [each["id"] for each in found]
    assert {alpha.organization.pk, beta.organization.pk} <= set(numbers)
    assert numbers == sorted(numbers, reverse=True)
    assert get(staff_client, PATH, search="acme", status="suspended")["count"] == 0


def test_staff_retrieve_by_id_and_by_slug(staff_client: Client, alpha: Company) -> None:
    by_id = get(staff_client, f"{PATH}{alpha.organization.pk}/")
    assert by_id == get(staff_client, f"{PATH}acme-corp/") == get(staff_client, f"{PATH}acme-corp")
    assert (by_id["name"], by_id["database_name"]) == ("Acme Corp", "org_acme_corp")


def test_no_answer_holds_a_credential(staff_client: Client, alpha: Company) -> None:
    row = Organization.objects.get(pk=alpha.organization.pk)
    text = staff_client.get(f"{PATH}acme-corp/").content.decode()
    for secret in (row.sealed_password, unseal(row.sealed_password, owner=""), row.role_name):
        assert secret not in text


def test_the_slug_of_a_reused_name_is_the_living_ones(staff_client: Client) -> None:
    for _ in range(2):
        made = lifecycle.create_organization(name="Reborn Ltd", email="a@b.com", password=PASSWORD)
        answer = get(staff_client, f"{PATH}reborn-ltd/")
        lifecycle.delete_organization(made.organization)
        assert answer["id"] == made.organization.pk
    assert staff_client.get(f"{PATH}reborn-ltd/").status_code == 404
    assert get(staff_client, f"{PATH}{made.organization.pk}/")["status"] == "deleted"


def test_an_unknown_organization_is_not_found(staff_client: Client) -> None:
    for which in ("nobody", "999999999", "9" * 30, "Acme", "٣"):
        response = staff_client.get(f"{PATH}{which}/")
        assert (response.status_code, response.json()["code"]) == (404, "not_found"), which


def test_staff_create_an_organization(staff_client: Client) -> None:
    response = staff_client.post(PATH, sign_up("Staffed Ltd"), "application/json")
    lifecycle.delete_organization(lifecycle.find_organization("Staffed Ltd"))
    assert response.status_code == 201, response.content
    assert set(response.json()) == STAFF_FIELDS
    assert response.json()["status"] == "active"


def test_what_is_wrong_with_a_creation_is_answered_in_the_one_shape(
    staff_client: Client, alpha: Company
) -> None:
    for changes, status, code in (
        ({"organization_name": "ACME CORP"}, 409, "organization_exists"),
        ({"password": "12345678"}, 400, "invalid"),
        ({"email": "nobody"}, 400, "invalid"),
        ({"organization_name": "---"}, 400, "invalid"),
    ):
        response = staff_client.post(PATH, sign_up("Wrong Ltd", **changes), "application/json")
        assert (response.status_code, response.json()["code"]) == (status, code), changes
        if status == 400:
            assert set(response.json()["fields"]) == set(changes)


def test_nobody_changes_or_deletes_an_organization_here(
    staff_client: Client, alpha: Company
) -> None:
    for method in ("put", "patch", "delete"):
        response = getattr(staff_client, method)(f"{PATH}acme-corp/")
        assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")


# --- Everybody else -----------------------------------------------------------------------------
def test_strangers_are_refused(client: Client, alpha: Company) -> None:
    for path in (PATH, f"{PATH}acme-corp/", "/api/v1/organization/"):
        assert client.get(path).status_code == 401, path
    assert client.post(PATH, sign_up("Strange Ltd"), "application/json").status_code == 401
    assert not Organization.objects.named("Strange Ltd").exists()


def test_an_organizations_admin_is_refused_even_its_own(client: Client, alpha: Company) -> None:
    headers = bearer(alpha, client)
    for answer in (
        client.get(PATH, headers=headers),
        client.get(f"{PATH}acme-corp/", headers=headers),
        client.post(PATH, sign_up("Member Ltd"), "application/json", headers=headers),
    ):
        assert answer.status_code == 403
        assert "staff" in answer.json()["detail"]
    assert not Organization.objects.named("Member Ltd").exists()


# --- One's own ----------------------------------------------------------------------------------
def test_users_see_their_organization_but_not_its_database(
    client: Client, staff_client: Client, alpha: Company, beta: Company
) -> None:
    for company in (alpha, beta):
        response = client.get("/api/v1/organization/", headers=bearer(company, client))
        assert response.status_code == 200
        assert response.json()["id"] == company.organization.pk
        fields = {"id", "name", "slug", "admin_email", "status", "is_clone", "created_at"}
        assert set(response.json()) == fields | {"read_only_until"}
    assert staff_client.get("/api/v1/organization/").status_code == 403, "staff have none"
