"""Django admin for staff and groups. Nobody can grant a right that they do not have."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, Permission
from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest, HttpResponse

from organizations.models import Staff

from .lookups import OfferedLookups
from .record import RecordedAdmin

if TYPE_CHECKING:
    _UserAdmin = UserAdmin[Staff]
else:  # Not in generic.py: its import makes the admin site, whose class is in record.py.
    _UserAdmin = UserAdmin

_RIGHTS = ("is_superuser", "groups", "user_permissions")

admin.site.unregister(Group)


@admin.register(Group)
class RecordedGroupAdmin(OfferedLookups, RecordedAdmin, GroupAdmin):
    """Groups of staff rights. Only superusers may change them: the editor may be a member."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return _is_superuser(request)

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return _is_superuser(request)

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return _is_superuser(request)


@admin.register(Staff)
class StaffAdmin(OfferedLookups, RecordedAdmin, _UserAdmin):
    """The platform's staff. Superusers grant rights. Others cannot change staff with more rights:
    setting their password would give access to those rights."""

    def get_readonly_fields(self, request: HttpRequest, obj: Staff | None = None) -> Any:
        fields = tuple(super().get_readonly_fields(request, obj))
        return fields if _is_superuser(request) else (*fields, *_RIGHTS)

    def has_change_permission(self, request: HttpRequest, obj: Staff | None = None) -> bool:
        return super().has_change_permission(request, obj) and _may_no_more(obj, request)

    def has_delete_permission(self, request: HttpRequest, obj: Staff | None = None) -> bool:
        return super().has_delete_permission(request, obj) and _may_no_more(obj, request)

    def user_change_password(
        self, request: HttpRequest, id: str, form_url: str = ""
    ) -> HttpResponse:
        """In one transaction, unlike Django's: no password may be set without an entry."""
        with transaction.atomic(using="default"):
            return super().user_change_password(request, id, form_url)


def _is_superuser(request: HttpRequest) -> bool:
    return request.user.is_active and request.user.is_superuser


def _may_no_more(staff: Staff | None, request: HttpRequest) -> bool:
    """Whether the requester has every right that this person has, or would have when active."""
    if staff is None or _is_superuser(request):
        return True
    if staff.is_superuser:
        return False
    given = Permission.objects.filter(Q(user=staff) | Q(group__user=staff))
    rights = given.values_list("content_type__app_label", "codename").order_by()
    return {f"{label}.{name}" for label, name in rights} <= request.user.get_all_permissions()
