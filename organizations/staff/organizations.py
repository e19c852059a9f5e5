"""Django admin for organizations and servers. Read-only, except actions that call lifecycle.py."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters

from accounts.models import MAX_EMAIL_LENGTH
from accounts.services import MAX_PASSWORD_LENGTH
from organizations import lifecycle
from organizations.errors import (
    FOR_OPERATORS,
    UNAVAILABLE,
    OrganizationError,
)
from organizations.models import Organization, Server
from organizations.postgres.databases import sizes_bytes
from organizations.tenancy.tenant import MAX_NAME_LENGTH

from .buttons import ActsAdmin
from .generic import OrganizationModelAdmin, ServerModelAdmin
from .lookups import OfferedLookups
from .pages import ActionsOnly

admin.site.site_header = "Organization Management"
admin.site.site_title = "Organization Management"
admin.site.index_title = "Master records"


class NewOrganizationForm(forms.Form):
    """The fields of a sign-up."""

    organization_name = forms.CharField(label="Name", max_length=MAX_NAME_LENGTH)
    email = forms.EmailField(label="First admin's e-mail", max_length=MAX_EMAIL_LENGTH)
    password = forms.CharField(
        label="First admin's password",
        strip=False,
        max_length=MAX_PASSWORD_LENGTH,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )


@admin.register(Organization)
class OrganizationAdmin(ActsAdmin, ActionsOnly, OfferedLookups, OrganizationModelAdmin):
    """List, search and add organizations, and act on them. Never shows a credential."""

    list_display = (
        *("name", "status", "read_only_until", "server", "database_name", "size", "created_at"),
    )
    list_display_links = ("name",)
    list_filter = ("status", "server", "created_at")
    list_select_related = ("server",)
    search_fields = ("name", "slug", "admin_email", "database_name")
    date_hierarchy = "created_at"
    ordering = ("-id",)
    list_per_page = 50
    fields = (
        "id",
        "name",
        "slug",
        "admin_email",
        "status",
        "status_reason",
        "status_message",
        "status_changed_at",
        "kept_until",
        "provisioned",
        "cloned_from",
        "read_only_until",
        "server",
        "database_name",
        "role_name",
        "size",
        "created_at",
    )
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Not when ORG_SIGNUP forbids sign-ups over HTTP."""
        return settings.ORG_SIGNUP != "off" and super().has_add_permission(request)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The page's rows, with all database sizes fetched in one query."""
        changelist = super().get_changelist_instance(request)
        _note_sizes(list(changelist.result_list))
        return changelist

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Organization | None:
        organization = super().get_object(request, object_id, from_field)
        if organization is not None:
            _note_sizes([organization])
        return organization

    @admin.display(description="Size")
    def size(self, organization: Organization) -> str:
        size_bytes = getattr(organization, "size_bytes", None)
        return "–" if size_bytes is None else filesizeformat(size_bytes)

    @method_decorator([csrf_protect, sensitive_post_parameters("password")])
    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Sign-up by staff. Replaces ModelAdmin's own view, which runs in a transaction."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = NewOrganizationForm(request.POST or None)
        failed = False
        if form.is_valid():
            try:
                created = self._create(request, form)
                page = reverse("admin:organizations_organization_change", args=[created.pk])
                return HttpResponseRedirect(page)
            except ValidationError as error:
                form.add_error(None, error)
            except OrganizationError as error:
                form.add_error(None, str(error))
                # The person at the form cannot correct it, so the status must not be 200.
                failed = isinstance(error, FOR_OPERATORS + UNAVAILABLE)
        context = {
            **self.admin_site.each_context(request),
            "title": "Add organization",
            "opts": self.opts,
            "form": form,
            **(extra_context or {}),
        }
        template = "admin/organizations/organization/add_form.html"
        response = TemplateResponse(request, template, context, status=503 if failed else None)
        if failed:
            response["Retry-After"] = "2"
        return response

    def _create(self, request: HttpRequest, form: NewOrganizationForm) -> Organization:
        data = form.cleaned_data
        created = lifecycle.create_organization(
            name=data["organization_name"], email=data["email"], password=data["password"]
        )
        organization, report = created.organization, created.report
        self.log_addition(request, organization, "Created with its database.")
        steps = ", ".join(f"{step} {seconds:.2f} s" for step, seconds in report.seconds.items())
        messages.success(
            request,
            f"Created {organization.name} with the database {organization.database_name} "
            f"in {report.total_seconds:.2f} s: {steps}.",
        )
        return organization

    def save_model(self, request: HttpRequest, obj: Organization, form: Any, change: bool) -> None:
        """Writes nothing: every field is read-only, and the page's copy may be outdated."""


def _note_sizes(organizations: list[Organization]) -> None:
    sizes = sizes_bytes(organization.database_name for organization in organizations)
    for organization in organizations:
        if organization.status != Organization.Status.DELETED:
            organization.size_bytes = sizes.get(  # type: ignore[attr-defined]
                organization.database_name
            )


@admin.register(Server)
class ServerAdmin(OfferedLookups, ServerModelAdmin):
    """The PostgreSQL servers that hold the organizations' databases."""

    list_display = ("name",)
    readonly_fields = ("name",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Server | None = None) -> bool:
        return False
