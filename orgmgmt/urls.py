"""All URL patterns. EdgeMiddleware accepts each with and without a trailing slash."""

from django.contrib import admin
from django.urls import include, path, re_path
from django.views.generic import RedirectView

from accounts.api import browser
from accounts.api.logins import AdminLoginView
from accounts.links import pages
from organizations.urls import first_edition_urlpatterns
from organizations.urls import link_urlpatterns as organization_link_urlpatterns

from .api_root import ApiRootView
from .docs import RedocView, SchemaView, SwaggerView
from .edge import handlers
from .edge.health import HealthView, ReadyView, RootView
from .edge.security_txt import SecurityTxtView

# DRF's templates use the names `login` and `logout`.
browser_urlpatterns = (
    [
        path("login/", browser.LoginView.as_view(), name="login"),
        path("logout/", browser.log_out, name="logout"),
    ],
    "rest_framework",
)

# The targets of mailed links.
link_urlpatterns = [
    path("password-reset/", pages.PasswordResetPage.as_view(), name="password-reset"),
    path(
        "password-reset/confirm/",
        pages.PasswordResetConfirmPage.as_view(),
        name="password-reset-confirm",
    ),
    path("email/verify/", pages.EmailVerifyPage.as_view(), name="email-verify"),
    *organization_link_urlpatterns,
]

urlpatterns = [
    path("", RootView.as_view(), name="root"),
    path("health", HealthView.as_view(), name="health"),
    path("ready", ReadyView.as_view(), name="ready"),
    path("openapi.json", SchemaView.as_view(), name="schema"),
    path("docs", SwaggerView.as_view(url_name="schema"), name="docs"),
    path("redoc", RedocView.as_view(url_name="schema"), name="redoc"),
    path(".well-known/security.txt", SecurityTxtView.as_view(), name="security-txt"),
    *first_edition_urlpatterns,
    path("admin/login", AdminLoginView.as_view(), name="admin-login"),
    path("admin", RedirectView.as_view(url="/admin/")),
    path("admin/", admin.site.urls),
    path("api/", include(browser_urlpatterns)),
    path("api/", include(link_urlpatterns)),
    path("api/v1/", ApiRootView.as_view(), name="api-root"),
    path("api/v1/", include("accounts.urls")),
    path("api/v1/", include("organizations.urls")),
    re_path("", handlers.not_found, name="not-found"),
]

handler400 = handlers.bad_request
handler403 = handlers.permission_denied
handler404 = handlers.not_found
handler500 = handlers.server_error
