"""Django admin's buttons for the acts on organizations, and their confirmation page."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from organizations.errors import (
    OrganizationError,
    ServerRefused,
    ServerUnavailable,
    SessionsRemain,
    TookTooLong,
)
from organizations.models import Organization

from .acts import ACTS, Act

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Organization]
else:  # Generic only in the stubs.
    _ModelAdmin = admin.ModelAdmin

_TEMPLATE = "admin/organizations/organization/confirm_act.html"
# The page names each in a field, and Django reads at most 1,000.
_MOST = 500


class ActsAdmin(_ModelAdmin):
    """A button for each act, with a Django permission of its own."""

    actions = tuple(act.verb for act in ACTS)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """One organization, with a button for each act."""
        actions = filter(None, self.get_actions(request).values())
        acts = [(name, label) for _, name, label in actions]
        context = {"acts": acts} | (extra_context or {})
        return super().change_view(request, object_id, form_url, context)

    def _asked(
        self, request: HttpRequest, queryset: QuerySet[Organization], act: Act
    ) -> HttpResponse | None:
        """The confirmation page; None, for the list, once it is confirmed and done."""
        chosen = list(queryset[: _MOST + 1])
        if len(chosen) > (most := 1 if act.is_for_one else _MOST):
            messages.error(request, f"Choose at most {most}.")
            return None
        form = act.form(request.POST if "confirmed" in request.POST else None)
        if form.is_valid():
            try:
                self._do(request, chosen, act, form.cleaned_data)
                return None
            except ValidationError as error:
                form.add_error(None, error)
        context = {
            **self.admin_site.each_context(request),
            "title": f"{act.verb.capitalize()}: are you sure?",
            "opts": self.opts,
            "act": act,
            "chosen": chosen,
            "form": form,
        }
        return TemplateResponse(request, _TEMPLATE, context)

    def _do(
        self, request: HttpRequest, chosen: list[Organization], act: Act, data: dict[str, Any]
    ) -> None:
        for organization in chosen:
            before = organization.name
            try:
                act.work(organization, **data)
            except (ServerUnavailable, ServerRefused, SessionsRemain, TookTooLong):
                raise  # Answered 503: it may be half done, and a second try finishes it.
            except OrganizationError as error:
                messages.error(request, str(error))
            else:
                now = "" if organization.name == before else f" to {organization.name}"
                self.log_change(request, organization, f"{act.done} {before}{now}.")
                messages.success(request, f"{act.done} {before}{now}.")


def _add(act: Act) -> None:
    """Give ActsAdmin the action, and Django what asks for its permission."""
    # Not has_delete_permission, by which Django shows buttons of its own.
    needed = f"act_{act.verb}"

    def may(self: ActsAdmin, request: HttpRequest) -> bool:
        return request.user.has_perm(f"organizations.{act.verb}_organization")

    @admin.action(permissions=[needed], description=f"{act.button or act.verb.capitalize()}…")
    def ask(
        self: ActsAdmin, request: HttpRequest, queryset: QuerySet[Organization]
    ) -> HttpResponse | None:
        return self._asked(request, queryset, act)

    setattr(ActsAdmin, f"has_{needed}_permission", may)
    setattr(ActsAdmin, act.verb, ask)


for _act in ACTS:
    _add(_act)
