"""URL patterns for organizations."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from .api import audit, exports, sign_ups, thaw, views

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
    path("org/thaw-link/", thaw.ThawLinkView.as_view(), name="thaw-link"),
    path("org/thaw/", thaw.ThawView.as_view(), name="thaw"),
    path("org/thaw/<str:token>/", thaw.ThawStatusView.as_view(), name="thaw-status"),
    *router.urls,
]
# The target of the mailed link.
link_urlpatterns = [path("thaw/", thaw.ThawPage.as_view(), name="thaw-page")]
