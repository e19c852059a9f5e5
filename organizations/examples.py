"""Examples for the API's documentation. The values are made up."""

from accounts.examples import answered, sent

_ORGANIZATION = {
    "id": 1,
    "name": "TestOrg",
    "admin_email": "admin@test.com",
    "created_at": "2026-01-15T10:30:00Z",
}
_DETAIL = {**_ORGANIZATION, "slug": "testorg", "status": "active"}
_STAFF = {
    **_DETAIL,
    "status_reason": "",
    "server": "default",
    "database_name": "org_testorg",
}
_SIGN_UP = sent(
    {"email": "admin@test.com", "password": "testpass123", "organization_name": "TestOrg"}
)

CREATE = [_SIGN_UP, answered(_ORGANIZATION, 201)]
GET = [sent({"organization_name": "TestOrg"}), answered(_ORGANIZATION)]
OWN = [answered(_DETAIL)]
STAFF = [answered(_STAFF)]
STAFF_CREATE = [_SIGN_UP, answered(_STAFF, 201)]
