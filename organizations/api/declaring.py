"""Decorator for staff endpoints: route, permission, idempotency, schema."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.response import Response

from . import serializers
from .idempotency import PARAMETER, idempotent
from .permissions import StaffMayAct

if TYPE_CHECKING:
    from rest_framework.decorators import ViewSetAction

_Method = Callable[..., Response]
_ANSWER = {200: serializers.OrganizationStaffOutput}


def act(
    *,
    responses: Mapping[int, Any] = _ANSWER,
    route: Mapping[str, str] | None = None,
    **schema: Any,
) -> "Callable[[_Method], ViewSetAction[_Method]]":
    """Answer POST …/{id}/<the method's name>/: for staff with the permission of that name, and once
    for each Idempotency-Key.

    route: url_path and url_name, if they are not the method's name. schema: as extend_schema takes
    it.
    """
    routed = action(
        detail=True, methods=["post"], permission_classes=[StaffMayAct], **(route or {})
    )
    described = extend_schema(responses=responses, parameters=[PARAMETER], tags=["staff"], **schema)
    return lambda method: described(routed(idempotent(method)))
