"""The API root, /api/v1/: the links it lists."""

from django.test import Client
from django.urls import include, path
from pytest_django import Settings

from orgmgmt.urls import handler400, handler403, handler404, handler500
from orgmgmt.urls import urlpatterns as project_urlpatterns
from tests.orgmgmt import team_urls

__all__ = ("handler400", "handler403", "handler404", "handler500")
# As the tutorial adds a team's app.
urlpatterns = [path("api/v1/", include(team_urls.router.urls)), *project_urlpatterns]


def test_it_lists_whatever_is_registered_a_tenant_apps_too(
    client: Client, settings: Settings
) -> None:
    before = client.get("/api/v1/").json()
    names = {"me", "users", "organization", "audit", "organizations", "token", "token-refresh"}
    assert names <= set(before)
    assert before["users"] == "http://testserver/api/v1/users/"
    assert not [name for name, url in before.items() if "<" in url or name == "api-root"]

    settings.ROOT_URLCONF = __name__
    there = {name: f"http://testserver/api/v1/{name}/" for name in ("people", "logins")}
    assert client.get("/api/v1/").json() == before | there
