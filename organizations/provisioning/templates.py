"""Template databases that new ones are copied from: one per fingerprint of the migrations.

A template is built under another name, closed, and renamed in the transaction that marks its row
ready. Its tables belong to a role that cannot log in and owns no database: so REASSIGN OWNED in a
copy moves only the copy's tables.
"""

import logging
import secrets
import time
from datetime import timedelta

from django.db import connections, transaction
from django.utils import timezone
from psycopg import sql

from organizations.models import Server, Template, UncopyableSchema
from organizations.naming import RESERVED_PREFIX, system_database_name
from organizations.postgres import identity, trouble
from organizations.postgres.databases import drop, ensure_database, past_pooler
from organizations.postgres.identity import Expected
from organizations.postgres.roles import ensure_role
from organizations.postgres.sessions import ServerSession
from organizations.secrets import seal
from organizations.tenancy import Place, Tenant, registry

from . import code
from .failures import noted
from .migrations import migrate_tenant
from .obstacles import Obstacle, Watch

logger = logging.getLogger(__name__)

# No organization has this key.
LOCK = "\x00templates"
KEPT_UNUSED = timedelta(days=1)
_USE_IS_NOTED = timedelta(hours=1)
# The pause after a failed build: otherwise every sign-up would try again, and take twice as long.
_PAUSE_SECONDS = 60.0
_not_before = 0.0


def ensure(session: ServerSession) -> Template | None:
    """The template of this code, built if there is none.

    None: it is unusable now, another process is building it, a build has just failed, or a copy
    would differ from what the migrations make (obstacles.py). Building and copying it takes hardly
    longer than migrating, so the first sign-up builds it, and nobody waits for another. Raises only
    for an unavailable server.
    """
    global _not_before
    template = ready()
    if template is not None:
        return template if _is_free(session, template) else None
    if time.monotonic() < _not_before or obstacles() or not session.try_lock(LOCK):
        return None
    try:
        if (template := ready()) is not None or obstacles():
            return template
        drop_unfinished(session)
        return build(session)
    except Exception as error:
        if trouble.is_servers(error):
            raise
        _not_before = time.monotonic() + _PAUSE_SECONDS
        logger.error("template not built", exc_info=error)
        return None
    finally:
        if not session.connection.closed:
            session.unlock(LOCK)


def ready() -> Template | None:
    """The usable template of this code, if any."""
    return Template.objects.filter(
        fingerprint=code.current().fingerprint, ready=True, server__name=Server.DEFAULT
    ).first()


def obstacles() -> list[Obstacle]:
    """Why this code's template is not copied; empty if it is, or was not inspected yet."""
    found = UncopyableSchema.objects.filter(fingerprint=code.current().fingerprint).first()
    return [] if found is None else [Obstacle.of_json(each) for each in found.obstacles]


def _is_free(session: ServerSession, template: Template) -> bool:
    """Whether it exists without sessions: CREATE DATABASE would wait 5 s for them."""
    # Autovacuum has no role, and gives way to CREATE DATABASE.
    free = session.value(
        "SELECT NOT EXISTS (SELECT FROM pg_stat_activity AS a WHERE a.datid = d.oid "
        "AND a.usesysid IS NOT NULL) FROM pg_database AS d WHERE datname = %s",
        (template.database_name,),
    )
    if not free:
        why = "it is gone" if free is None else "it has open sessions"
        logger.warning("template not usable", extra={"template": template.pk, "why": why})
        if free is None:
            distrust(template)
        return False
    if timezone.now() - template.used_at > _USE_IS_NOTED:
        Template.objects.filter(pk=template.pk).update(used_at=timezone.now())
    return True


def note_use() -> None:
    """Record that the template of this code, and what was made with it, is in use."""
    stale = timezone.now() - _USE_IS_NOTED
    Template.objects.filter(
        fingerprint=code.current().fingerprint, ready=True, used_at__lt=stale
    ).update(used_at=timezone.now())


def distrust(template: Template) -> None:
    """Stop using it: the next sign-up builds another, and this one is dropped."""
    Template.objects.filter(pk=template.pk).update(ready=False)


def build(session: ServerSession) -> Template | None:
    """Build a template of this code. The lock must be held, and no template be ready.

    None if a copy would differ from what the migrations make: that is recorded, and logged once.
    Raises what PostgreSQL and Django raise. In both cases nothing is left of it.
    """
    began = time.perf_counter()
    code.refuse_incoherent_migrations()
    master = session.connection.info.dbname
    template = Template.objects.create(
        server=Server.of_master(),
        fingerprint=code.current().fingerprint,
        database_name=system_database_name("building", master=master),
        role_name=f"{RESERVED_PREFIX}tables_{secrets.token_hex(8)}",
    )
    try:
        found = _make(session, template)
        if found:
            _refuse(session, template, found)
            return None
        _publish(session, template)
    except BaseException:
        try:
            _drop(session, template)
        except Exception:
            # Its row stays; the next build or reconcile drops it.
            logger.exception("template not dropped", extra={"template": template.pk})
        raise
    template.refresh_from_db()
    seconds = round(time.perf_counter() - began, 3)
    logger.info("template built", extra={"template": template.pk, "seconds": seconds})
    return template


def _make(session: ServerSession, template: Template) -> list[Obstacle]:
    password = secrets.token_urlsafe(32)
    database, role = template.database_name, template.role_name
    tenant = Tenant(0, "template", template.key, past_pooler(Place(database, role, seal(password))))
    try:
        ensure_role(session, role=role, password=password, key=template.key)
        ensure_database(session, database=database, role=role, key=template.key)
        watch = Watch(tenant)
        migrate_tenant(tenant, after=watch.after)
        found = watch.found()
    finally:
        registry.forget(tenant.alias)  # Also closes its connections.
    name, tables, me = (sql.Identifier(each) for each in (database, role, session.user))
    with session.membership(role):
        session.batch(
            sql.SQL("ALTER DATABASE {} OWNER TO {}").format(name, me),
            # A migration can have set IS_TEMPLATE, with which PostgreSQL refuses a drop.
            sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false IS_TEMPLATE false").format(name),
            sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC, {}").format(name, tables),
            sql.SQL("ALTER ROLE {} NOLOGIN PASSWORD NULL").format(tables),
        )
    return found


def _refuse(session: ServerSession, template: Template, found: list[Obstacle]) -> None:
    """Record what a copy would lose or share, and drop it."""
    UncopyableSchema.objects.update_or_create(
        fingerprint=template.fingerprint,
        defaults={"obstacles": [each.as_json() for each in found]},
    )
    for each in found:
        logger.warning(
            "not copied: each organization is migrated by itself",
            extra={"migration": each.migration, "because": each.what},
        )
    _drop(session, template)


def _publish(session: ServerSession, template: Template) -> None:
    """Give it its name and mark it ready, both or neither."""
    master = session.connection.info.dbname
    # There can be another one of this fingerprint, whose row is gone.
    tail = f"{template.fingerprint[:12]}_{secrets.token_hex(2)}"
    name = system_database_name("template", master=master, tail=tail)
    rename = sql.SQL("ALTER DATABASE {} RENAME TO {}").format(
        sql.Identifier(template.database_name), sql.Identifier(name)
    )
    with transaction.atomic(using="default"):
        Template.objects.filter(pk=template.pk).update(
            database_name=name, ready=True, built_at=timezone.now()
        )
        with connections["default"].cursor() as cursor:
            cursor.execute(rename.as_string())


def drop_unfinished(session: ServerSession, failed: list[str] | None = None) -> list[str]:
    """Drop unready templates, and those of other code unused for a day. Returns their names.

    The lock must be held, so the maker of an unready one is dead. failed: collects the names of
    those that cannot be dropped now.
    """
    dropped = []
    unused = Template.objects.filter(used_at__lt=timezone.now() - KEPT_UNUSED).exclude(
        fingerprint=code.current().fingerprint
    )
    for template in Template.objects.filter(ready=False) | unused:
        name = template.database_name
        with noted(session, f"template {name}", [] if failed is None else failed):
            _drop(session, template)
            dropped.append(name)
    return dropped


def expected(session: ServerSession, template: Template) -> Expected:
    """What its row says about it. The tables' role owns it while it is built."""
    return Expected(
        f"the template {template.database_name}",
        template.key,
        template.role_name,
        template.database_name,
        identity.State.MADE,
        owners=(session.user, template.role_name),
    )


def _drop(session: ServerSession, template: Template) -> None:
    # Nobody copies it from here on; if the rest fails, it is retried.
    Template.objects.filter(pk=template.pk).update(ready=False)
    drop(session, identity.certain(session, expected(session, template)))
    Template.objects.filter(pk=template.pk).delete()
