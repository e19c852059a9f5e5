"""Every act that the audit trail knows, for the staff's filter and for docs/audit.md.

A test compares it with what the code records.
"""

ACTS = (
    "audit.exported",
    "audit.pruned",
    "command.run",
    "credentials.resealed",
    "credentials.reset",
    "email.verification_sent",
    "email.verified",
    "link.refused",
    "login.admin_required",
    "login.delayed",
    "login.failed",
    "login.succeeded",
    "logout",
    "organization.create_failed",
    "organization.created",
    "organization.deleted",
    "organization.deleting",
    "organization.resumed",
    "organization.suspended",
    "organization.undone",
    "password.changed",
    "password.refused",
    "password.reset",
    "password.reset_requested",
    "signing_keys.changed",
    "staff.changed",
    "staff.logged_in",
    "staff.logged_out",
    "staff.login_failed",
    "staff.password_refused",
    "throttle.exceeded",
    "token.reused",
    "user.created",
    "user.deactivated",
    "user.removed",
    "user.updated",
)
ACTORS = ("anonymous", "user", "staff", "command", "system")
