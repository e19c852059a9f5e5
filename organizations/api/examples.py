"""Request and response examples for the OpenAPI documentation. The values are made up."""

from accounts.api.examples import answered, sent

_ORGANIZATION = {
    "id": 1,
    "name": "TestOrg",
    "admin_email": "admin@test.com",
    "created_at": "2026-01-15T10:30:00Z",
}
_SEEN = {**_ORGANIZATION, "slug": "testorg", "status": "active"}
_DETAIL = {**_SEEN, "is_clone": False, "read_only_until": None}
_STAFF = {
    **_SEEN,
    "status_reason": "",
    "status_message": "",
    "kept_until": None,
    "cloned_from": None,
    "read_only_until": None,
    "server": "default",
    "database_name": "org_testorg",
}
_SIGN_UP = sent(
    {"email": "admin@test.com", "password": "testpass123", "organization_name": "TestOrg"}
)

_STATUS_URL = "/org/create/status/Zk9b1s5pQ2mX7cT0aV4eJ8uL3yR6wN1hG5dF2iB7oSk"
_ACCEPTED = answered({"state": "waiting", "step": "", "status_url": _STATUS_URL}, 202)

CREATE = [_SIGN_UP, answered(_ORGANIZATION, 201), _ACCEPTED]
SIGN_UP_STATUS = [answered({"state": "done", "step": "admin", "organization": _ORGANIZATION})]
GET = [sent({"organization_name": "TestOrg"}), answered(_ORGANIZATION)]
OWN = [answered(_DETAIL)]
STAFF = [answered(_STAFF)]
STAFF_CREATE = [_SIGN_UP, answered(_STAFF, 201), _ACCEPTED]
_SUSPENDED = {"status": "suspended", "status_reason": "unpaid", "status_message": "Write to us."}
SUSPEND = [
    sent({"reason": "unpaid", "message": "Write to us."}),
    answered({**_STAFF, **_SUSPENDED}),
]
RENAME = [sent({"name": "Test Org Ltd"}), answered({**_STAFF, "name": "Test Org Ltd"})]
_TRASHED = {"status": "trashed", "kept_until": "2026-02-14T10:30:00Z"}
DELETE = [sent({"free_name": False}), answered({**_STAFF, **_TRASHED})]
UNDELETE = [sent({"name": "TestOrg"}), answered(_STAFF)]
_RESTORE = {
    "state": "done",
    "undo": False,
    "backed_up_at": "2026-01-15T02:30:00Z",
    "started_at": "2026-01-15T10:30:00Z",
    "ended_at": "2026-01-15T10:31:12Z",
    "undo_until": "2026-01-22T10:31:12Z",
    "users": {"gone": 1, "password": 2},
    "error": "",
    "beside": False,
    "name": "",
    "id": None,
    "url": "",
}
_NOT_BEGUN = dict.fromkeys(("backed_up_at", "started_at", "ended_at", "undo_until"))
RESTORED = [answered(_RESTORE)]
RESTORE = [
    sent({"at": "2026-01-15T09:00:00Z"}),
    answered({**_RESTORE, **_NOT_BEGUN, "state": "waiting", "users": {}}, 202),
]
_CLONE = {"name": "TestOrg Copy", "exact": False}
_ASKED = {"state": "waiting", **_CLONE, "step": "", "error": "", "id": None}
CLONE = [sent(_CLONE), answered(_ASKED, 202)]
CLONE_STATE = [answered({**_ASKED, "state": "done", "step": "done", "id": 2})]
AUDIT = [
    answered(
        {
            "id": 42,
            "at": "2026-01-15T10:30:00Z",
            "act": "user.updated",
            "actor": "user",
            "actor_id": 1,
            "user_id": 2,
            "person": "3f2a9c1d5b7e8f604a1c2d3e4f5061728394a5b6c7d8e9f00112233445566778",
            "address": "203.0.113.7",
            "request_id": "0b9d7c9c5f0e4c5f8a7b6c5d4e3f2a1b",
            "facts": {"fields": ["is_admin"], "is_admin": True},
        }
    )
]
_EXPORT = {
    "state": "ready",
    "bytes": 48_213,
    "made_at": "2026-01-15T10:30:00Z",
    "expires_at": "2026-01-16T10:30:00Z",
    "url": "/api/v1/export/eyJvcmciOjF9.1vgMPh.Zk9b1s5pQ2mX7cT0aV4eJ8uL3yR6wN1hG5dF2iB7oSk/",
}
EXPORT = [answered(_EXPORT)]
EXPORT_ASKED = [answered({"state": "waiting"}, 202)]
ASKED = [answered({"job": 217, "state": "waiting", "step": "", "error": ""}, 202)]
ASKED_STATE = [answered({"job": 217, "state": "done", "step": "dropping", "error": ""})]
_THAW_URL = "/api/v1/org/thaw/eyJvcmciOjF9.1vNwXk.c2lnbmF0dXJl/"
THAW_LINK = [
    sent({"organization_name": "TestOrg"}),
    answered(
        {
            "detail": "If this organization is archived, we have sent its admin an e-mail with a "
            "link that brings it back."
        },
        202,
    ),
]
THAW = [
    sent({"token": "eyJvcmciOjF9.1vNwXk.c2lnbmF0dXJl"}),
    answered({"state": "waiting", "status_url": _THAW_URL}, 202),
]
THAW_STATE = [answered({"state": "done"})]
BACKUPS = [
    answered(
        {
            "id": 5,
            "state": "good",
            "started_at": "2026-01-15T10:30:00Z",
            "ended_at": "2026-01-15T10:30:04Z",
            "bytes": 48_213,
            "encryption_key": "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj",
            "verified_at": "2026-01-15T11:02:00Z",
            "error_code": "",
            "error": "",
        }
    )
]
