"""Staff on the API, by the session of Django admin."""

from rest_framework.authentication import SessionAuthentication


class StaffSessionAuthentication(SessionAuthentication):
    """A staff session of Django admin; unsafe methods need the CSRF token."""
