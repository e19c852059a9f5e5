"""Renders the browsable API, with the organization's id in every form."""

from collections.abc import Mapping
from typing import Any

from django.utils.html import format_html
from rest_framework import renderers

from organizations import tenancy
from organizations.tenancy.http import FORM_FIELD


class BrowsableAPIRenderer(renderers.BrowsableAPIRenderer):
    """DRF's own, with the organization's id in forms. If the browser has logged in to another
    organization meanwhile, the middleware refuses the form."""

    def get_context(
        self,
        data: Any,
        accepted_media_type: str | None,
        renderer_context: Mapping[str, Any],
    ) -> dict[str, Any]:
        context = super().get_context(data, accepted_media_type, renderer_context)
        tenant = tenancy.peek()
        context["organization_id"] = tenant and tenant.organization_id
        return context

    def render(self, *args: Any, **kwargs: Any) -> Any:
        page = super().render(*args, **kwargs)
        # The template has no block around this element.
        return page.replace("<html>", '<html lang="en">', 1) if isinstance(page, str) else page

    def render_form_for_serializer(self, serializer: Any) -> str:
        form: str = super().render_form_for_serializer(serializer)
        if (tenant := tenancy.peek()) is None:
            return form
        field = '<input type="hidden" name="{}" value="{}">'
        return format_html(field, FORM_FIELD, tenant.organization_id) + form
