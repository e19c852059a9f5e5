"""Every flow that writes, with the endpoints, admin pages and commands that it covers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.faults import organization_flows, staff_flows, user_flows
from tests.faults.attempts import Attempt
from tests.faults.world import World

_COMMON = ("begin", "master-read", "write", "audit", "commit", "after")
# Of what writes counters and entries alone.
_COUNTING = ("begin", "master-read", "counter", "after")
_MAKING = (
    "role",
    "role-recorded",
    "database",
    "database-recorded",
    "tables",
    "tables-recorded",
    "first-admin",
    "admin-recorded",
    "activation",
    "activation-commit",
)
# Nothing of it is in the audit trail but that the command was run.
_STOCKING = ("begin", "audit", "after", "role", "database", "stock", "stock-commit")
_FENCING = ("fence", "fence-ended")
_DROPPING = ("drop-database", "drop-role", "tombstone")


@dataclass(frozen=True)
class Flow:
    """A way to write something.

    covers: `METHOD path` of endpoints, `admin:name` of the admin's pages, names of commands.
    prepare: makes what the flow works on, and returns the attempt.
    alone: it holds up the others where it is held itself.
    environment: what the web server and the commands are configured with besides.
    """

    name: str
    covers: tuple[str, ...]
    steps: tuple[str, ...]
    prepare: Callable[[World], Attempt]
    alone: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


# The first thing that they write is a throttle's counter.
_COUNTED = (
    "sign_up",
    "staff_login",
    "login",
    "admin_login",
    "browser_login",
    "refresh",
    "password_reset",
    "password_reset_page",
    "email_verified",
    "email_verified_page",
    "password",
    "me_changed",
)


# Makes no entry of the trail, unless a token is used twice.
_UNRECORDED = ("refresh",)


def _steps(name: str, *more: str) -> tuple[str, ...]:
    steps = [*_COMMON, *more, *(("counter",) if name in _COUNTED else ())]
    return tuple(step for step in steps if step != "audit" or name not in _UNRECORDED)


# What a sign-up takes its database from. The template's way is the one of the other flows' world.
PLAIN = {"ORG_TEMPLATES": "off"}
SPARE = {"ORG_SPARE_DATABASES": organization_flows.SPARES_WANTED}
# It is taken in the transaction that writes the row.
_TAKING = ("database", "admin-recorded", "activation", "activation-commit")


def _making(name: str, covers: str, prepare: Callable[[World], Attempt]) -> tuple[Flow, ...]:
    return (
        Flow(name, (covers,), _steps(name, *_MAKING), prepare),
        Flow(f"{name}_plain", (covers,), _steps(name, *_MAKING), prepare, environment=PLAIN),
        Flow(
            f"{name}_spare",
            (covers,),
            _steps(name, *_TAKING),
            organization_flows.with_spares(prepare),
            environment=SPARE,
        ),
    )


def _tenant(name: str, covers: str, prepare: Callable[[World], Attempt]) -> Flow:
    return Flow(name, (covers,), _steps(name, "tenant-read"), prepare)


def _master(name: str, covers: str, prepare: Callable[[World], Attempt]) -> Flow:
    return Flow(name, (covers,), _steps(name), prepare)


ALL: tuple[Flow, ...] = (
    *_making("sign_up", "POST /org/create", organization_flows.sign_up),
    *_making("staff_create", "POST /api/v1/organizations/", organization_flows.staff_create),
    *_making("admin_add", "admin:organizations_organization_add", organization_flows.admin_add),
    *_making("create_org", "create_org", organization_flows.create_org),
    Flow(
        "build_template",
        ("build_template",),
        _STOCKING,
        organization_flows.build_template,
        alone=True,  # It holds a lock that the others look for.
    ),
    Flow(
        "refill_spares",
        ("refill_spares",),
        _STOCKING,
        organization_flows.refill_spares,
        alone=True,
        environment=SPARE,
    ),
    Flow(
        "delete_org",
        ("delete_org",),
        (*_COMMON, *_FENCING, *_DROPPING),
        organization_flows.delete_org,
    ),
    Flow("reconcile", ("reconcile_orgs",), (*_COMMON, *_DROPPING), organization_flows.reconcile),
    Flow(
        "suspend",
        ("admin:organizations_organization_changelist",),
        (*_COMMON, *_FENCING),
        organization_flows.suspend,
    ),
    _master("resume", "admin:organizations_organization_changelist", organization_flows.resume),
    Flow(
        "staff_suspend",
        ("POST /api/v1/organizations/<id_or_slug>/suspend/",),
        (*_COMMON, *_FENCING),
        organization_flows.staff_suspend,
    ),
    Flow(
        "staff_rename",
        ("POST /api/v1/organizations/<id_or_slug>/rename/",),
        (*_COMMON, "fence"),
        organization_flows.staff_rename,
    ),
    _master("reseal", "reseal_credentials", organization_flows.reseal),
    Flow(
        "prune_audit",
        ("prune_audit",),
        tuple(step for step in _COMMON if step != "master-read"),  # It reads no organization.
        organization_flows.prune_audit,
        alone=True,  # Nobody writes to the trail while it deletes.
    ),
    _master("migrate", "migrate", organization_flows.migrate),
    Flow(
        "migrate_orgs",
        ("migrate_orgs",),
        _COMMON,
        organization_flows.migrate_orgs,
    ),
    _master("staff_login", "admin:login", staff_flows.login),
    _master("staff_logout", "admin:logout", staff_flows.logout),
    _master("own_staff_password", "admin:password_change", staff_flows.own_password),
    _master("staff_added", "admin:organizations_staff_add", staff_flows.added),
    _master("staff_changed", "admin:organizations_staff_change", staff_flows.changed),
    _master("staff_password", "admin:auth_user_password_change", staff_flows.password),
    _master("staff_removed", "admin:organizations_staff_delete", staff_flows.removed),
    _tenant("login", "POST /api/v1/auth/token/", user_flows.login),
    _tenant("admin_login", "POST /admin/login", user_flows.admin_login),
    _tenant("browser_login", "POST /api/login/", user_flows.browser_login),
    _tenant("browser_logout", "ANY /api/logout/", user_flows.browser_logout),
    _tenant("refresh", "POST /api/v1/auth/token/refresh/", user_flows.refresh),
    _tenant("logout", "POST /api/v1/auth/logout/", user_flows.logout),
    _tenant(
        "password_reset", "POST /api/v1/auth/password-reset/confirm/", user_flows.password_reset
    ),
    _tenant(
        "password_reset_page", "POST /api/password-reset/confirm/", user_flows.password_reset_page
    ),
    _tenant("email_verified", "POST /api/v1/auth/email/verify/", user_flows.email_verified),
    _tenant("email_verified_page", "POST /api/email/verify/", user_flows.email_verified_page),
    _tenant("password", "POST /api/v1/me/password/", user_flows.password),
    _tenant("me_changed", "PATCH /api/v1/me/", user_flows.me_changed),
    _tenant("user_created", "POST /api/v1/users/", user_flows.user_created),
    _tenant("user_replaced", "PUT /api/v1/users/<pk>/", user_flows.user_replaced),
    _tenant("user_changed", "PATCH /api/v1/users/<pk>/", user_flows.user_changed),
    _tenant("user_removed", "DELETE /api/v1/users/<pk>/", user_flows.user_removed),
    # The mail itself is sent after the answer, and is lost with a killed process.
    Flow(
        "reset_asked",
        ("POST /api/v1/auth/password-reset/",),
        (*_COUNTING, "audit"),
        user_flows.reset_asked,
    ),
    Flow(
        "reset_asked_page",
        ("POST /api/password-reset/",),
        (*_COUNTING, "audit"),
        user_flows.reset_asked_page,
    ),
    Flow(
        "verification_asked",
        ("POST /api/v1/me/email/verification/",),
        # Over a kept connection it reads nothing of the master.
        tuple(step for step in (*_COUNTING, "tenant-read") if step != "master-read"),
        user_flows.verification_asked,
    ),
    Flow("lookup", ("POST /org/get",), _COUNTING, organization_flows.lookup),
    Flow(
        "audit_exported",
        ("admin:organizations_auditentry_export",),
        ("begin", "master-read", "audit", "after"),
        staff_flows.audit_exported,
    ),
)

# What could write but is in no flow, each with the reason.
NO_FLOWS = {
    "ANY /admin": "a redirect",
    "adopt_org": "tests/organizations/recovery/test_identity.py; reconciling undoes what a killed "
    "run made, and the old database stays",
    "adopt_fastapi_orgs": "tests/organizations/first_edition/test_taking_over.py kills it at each "
    "step; it makes databases as create_org does",
    "clone_org": "tests/organizations/cloning/test_interrupted.py kills it at each step; the "
    "original is only read, and reconciling undoes the clone",
    "POST /api/v1/organizations/<id_or_slug>/clone/": "one transaction; the job is what clone_org "
    "does",
    "backup_orgs": "tests/organizations/backups: killed, and with a failing storage; it only "
    "writes two rows, and reconciling removes what is left",
    "verify_backups": "tests/organizations/backups: killed in the middle; reconciling drops the "
    "throw-away database",
    "claim_installation": "one transaction",
    "identify_orgs": "a comment for each role; the next run does the rest",
    "POST /api/v1/organizations/<id_or_slug>/resume/": "one transaction, tried by resume; repeated "
    "as staff_suspend tries",
    "POST /api/v1/organizations/<id_or_slug>/delete/": "tests/organizations/deleting: killed at "
    "each commit; reconciling puts it aside, or finishes the drop that delete_org tries",
    "POST /api/v1/organizations/<id_or_slug>/undelete/": "tests/organizations/deleting: killed "
    "meanwhile, reconciling puts it aside again",
    "undelete_org": "the same as its POST",
    **{
        f"POST /api/v1/organizations/<id_or_slug>/{act}/": "one transaction, which enqueues a job; "
        "repeated by tests/organizations/backups/test_asking.py"
        for act in ("backup", "verify", "export")
    },
    "suspend_org": "tried by suspend",
    "resume_org": "tried by resume",
    "rename_org": "tried by staff_rename",
    "restore_org": "tests/organizations/restoring/test_interrupted.py kills it, and its undo, at "
    "each step",
    "POST /api/v1/organizations/<id_or_slug>/restore/": "one transaction, which enqueues what "
    "restore_org does",
    "check": "reads",
    "check_isolation": "makes and removes its two organizations as sign_up and delete_org do; "
    "the next run, or `--clean`, removes what a killed one left",
    "check_orgs": "reads; with --fix does what reconcile tries, and resets privileges, which the "
    "next run repeats",
    "list_orgs": "reads",
    "export_org": "reads, after recording that it does; its file gets its name once complete: "
    "tests/organizations/exporting/test_export_org.py kills it",
    "POST /api/v1/export/": "one transaction; "
    "tests/organizations/exporting/test_export_api.py lets the job die",
    "org_command": "runs another command; migrate_orgs finds what a killed `migrate` left: "
    "tests/organizations/migrating/test_command.py",
    "archive_org": "tests/organizations/archiving/test_interrupted.py kills it at each step",
    "thaw_org": "the same",
    **{
        f"POST /api/v1/organizations/<id_or_slug>/{act}/": f"one transaction, which enqueues what "
        f"{act}_org does"
        for act in ("archive", "thaw")
    },
    "POST /api/v1/org/thaw-link/": "one transaction, which enqueues a mail",
    "POST /api/v1/org/thaw/": "one transaction, which enqueues what thaw_org does",
    "POST /api/thaw/": "the same",
    "restore_orgs": "what restore_org does; tests/organizations/restoring/test_lost.py kills it",
    "query_orgs": "reads, after recording that it does",
    "mark_media": "makes an empty file and records it; the next run does both",
    "prepare_start": "closes the master and records a fact; each start of a server repeats it",
    "reset_credentials": "a role and its row change in one transaction, which marks the row as a "
    "suspension does: a worker or reconciling ends what a killed one left open",
    "dumpdata": "reads",
    "loaddata": "one transaction",
    "create_admin": "one transaction, like user_created and user_changed",
    "test": "refuses",
    "testserver": "refuses",
    "seed_orgs": "for development: makes organizations as sign_up does",
    "server_sql": "prints",
    "showmigrations": "reads",
    "prune": "deletes what has expired, each kind by a statement that the next run repeats; the "
    "trail as prune_audit does",
    "worker": "make job-storm kills it at each statement of each kind of job",
    "admin:jobs_job_add": "refused to everybody",
    "admin:jobs_job_change": "reads",
    "admin:jobs_job_changelist": "each of its actions is one transaction of Procrastinate, and "
    "make job-storm tries what they leave",
    "admin:jobs_job_delete": "refused to everybody",
    "admin:jobs_job_history": "reads",
    "admin:index": "reads",
    "admin:organizations_backuprun_add": "refused to everybody",
    "admin:organizations_backuprun_change": "reads",
    "admin:organizations_backuprun_changelist": "reads",
    "admin:organizations_backuprun_delete": "refused to everybody",
    "admin:organizations_backuprun_history": "reads",
    "admin:organizations_auditentry_add": "refused to everybody",
    "admin:organizations_auditentry_change": "reads",
    "admin:organizations_auditentry_changelist": "reads",
    "admin:organizations_auditentry_delete": "refused to everybody",
    "admin:organizations_auditentry_history": "reads",
    "admin:app_list": "reads",
    "admin:jsi18n": "reads",
    "admin:autocomplete": "reads",
    "admin:view_on_site": "reads",
    "admin:password_change_done": "reads",
    "admin:organizations_organization_history": "reads",
    "admin:organizations_staff_history": "reads",
    "admin:organizations_server_history": "reads",
    "admin:auth_group_history": "reads",
    "admin:organizations_organization_change": "saves no field; the same view as staff_changed",
    "admin:organizations_organization_delete": "refused to everybody",
    "admin:organizations_server_add": "refused to everybody",
    "admin:organizations_server_change": "saves no field; the same view as staff_changed",
    "admin:organizations_server_changelist": "has no action",
    "admin:organizations_server_delete": "refused to everybody",
    "admin:organizations_staff_changelist": "its action deletes, by the view of staff_removed",
    "admin:auth_group_add": "Django's own view, tried by staff_added",
    "admin:auth_group_change": "Django's own view, tried by staff_changed",
    "admin:auth_group_changelist": "its action deletes, by the view of staff_removed",
    "admin:auth_group_delete": "Django's own view, tried by staff_removed",
}


def uncovered(listed: set[str]) -> set[str]:
    """Endpoints, pages and commands that can write and are in no flow."""
    return listed - {what for flow in ALL for what in flow.covers} - set(NO_FLOWS)
