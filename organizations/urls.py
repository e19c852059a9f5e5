"""URL patterns for organizations."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from .api import audit, exports, sign_ups, views

router = SimpleRouter()
router.register("organizations", views.OrganizationViewSet, basename="organizations")

first_edition_urlpatterns = [
    path("org/create", views.CreateOrganizationView.as_view(), name="org-create"),
    path(
        "org/create/status/<str:token>",
        sign_ups.SignUpStatusView.as_view(),
        name="sign-up-status",
    ),
    path("org/get", views.GetOrganizationView.as_view(), name="org-get"),
]
urlpatterns = [
    path("organization/", views.OwnOrganizationView.as_view(), name="organization"),
    path("audit/", audit.AuditView.as_view(), name="audit"),
    path("export/", exports.ExportView.as_view(), name="export"),
    path("export/<str:token>/", exports.ExportFileView.as_view(), name="export-file"),
    *router.urls,
]
