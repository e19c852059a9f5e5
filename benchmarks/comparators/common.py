"""The product's settings, with the changes that all comparators share."""

from typing import Any

TENANT_MIDDLEWARE = "organizations.middleware.TenantMiddleware"
STACK = "benchmarks.comparators.plain.stack"


def middleware(product: list[str], *instead: str) -> list[str]:
    """The product's middleware, with this one in place of the one that enters the organization."""
    at = product.index(TENANT_MIDDLEWARE)
    return [*product[:at], *instead, *product[at + 1 :]]


def rest_framework(product: dict[str, Any]) -> dict[str, Any]:
    """The product's DRF settings, without its organizations."""
    return {
        **product,
        "DEFAULT_AUTHENTICATION_CLASSES": [f"{STACK}.BearerAuthentication"],
        "DEFAULT_THROTTLE_CLASSES": [f"{STACK}.MemberThrottle"],
    }


def persistent(entry: dict[str, Any], *, engine: str, name: str) -> dict[str, Any]:
    """A DATABASES entry whose connections stay open, one for each thread.

    CONN_HEALTH_CHECKS is off, Django's default: it would add a query to each request.
    """
    return {
        **entry,
        "ENGINE": engine,
        "NAME": name,
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": False,
    }
