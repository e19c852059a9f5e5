"""Base view for the API paths kept from the first edition (`/org/…`, `/admin/login`)."""

from typing import Any

from rest_framework.generics import GenericAPIView
from rest_framework.permissions import AllowAny
from rest_framework.renderers import JSONRenderer
from rest_framework.throttling import BaseThrottle

from .negotiation import JSON_ONLY, JsonAlways


class FirstEditionView(GenericAPIView[Any]):
    """A path of the first edition: needs no login, JSON in and out."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    throttle_classes: tuple[type[BaseThrottle], ...] = ()
    parser_classes = JSON_ONLY
    renderer_classes = (JSONRenderer,)
    content_negotiation_class = JsonAlways
