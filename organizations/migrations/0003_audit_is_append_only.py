"""Makes the audit trail append-only in the database.

By triggers, not only by privileges: the application's role owns the table unless
`manage.py server_sql` has set up an owner, and a superuser has all privileges.
"""

from django.db import migrations

# 42501 is PostgreSQL's SQLSTATE for insufficient privileges.
REFUSE = """
CREATE FUNCTION public.audit_entries_refuse() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'The audit trail is append-only: % on audit_entries is refused.', TG_OP
        USING ERRCODE = 'insufficient_privilege',
              HINT = 'Old entries are deleted by manage.py prune_audit.';
END
$$;
"""

# FOR EACH STATEMENT: refused even if it matches no row, and the only kind for TRUNCATE. FOR EACH
# ROW: a statement on a parent table of audit_entries fires no statement trigger here. ALWAYS:
# session_replication_role=replica skips others.
TRIGGERS = """
CREATE TRIGGER audit_entries_no_update BEFORE UPDATE ON public.audit_entries
    FOR EACH STATEMENT EXECUTE FUNCTION public.audit_entries_refuse();
CREATE TRIGGER audit_entries_no_delete BEFORE DELETE ON public.audit_entries
    FOR EACH STATEMENT EXECUTE FUNCTION public.audit_entries_refuse();
CREATE TRIGGER audit_entries_no_truncate BEFORE TRUNCATE ON public.audit_entries
    FOR EACH STATEMENT EXECUTE FUNCTION public.audit_entries_refuse();
CREATE TRIGGER audit_entries_no_row_update BEFORE UPDATE ON public.audit_entries
    FOR EACH ROW EXECUTE FUNCTION public.audit_entries_refuse();
CREATE TRIGGER audit_entries_no_row_delete BEFORE DELETE ON public.audit_entries
    FOR EACH ROW EXECUTE FUNCTION public.audit_entries_refuse();
ALTER TABLE public.audit_entries ENABLE ALWAYS TRIGGER audit_entries_no_update;
ALTER TABLE public.audit_entries ENABLE ALWAYS TRIGGER audit_entries_no_delete;
ALTER TABLE public.audit_entries ENABLE ALWAYS TRIGGER audit_entries_no_truncate;
ALTER TABLE public.audit_entries ENABLE ALWAYS TRIGGER audit_entries_no_row_update;
ALTER TABLE public.audit_entries ENABLE ALWAYS TRIGGER audit_entries_no_row_delete;
"""

# One batch per transaction: writers wait only briefly while the triggers are off. A lock on the
# table for more than five seconds stops pruning, but does not block everybody else.
PRUNE = """
CREATE FUNCTION public.audit_prune(before timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    pruned bigint;
BEGIN
    IF before IS NULL OR before > statement_timestamp() - interval '30 days' THEN
        RAISE EXCEPTION 'The audit entries of the last 30 days are kept.'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF NOT EXISTS (SELECT FROM public.audit_entries WHERE at < before) THEN
        RETURN 0;
    END IF;
    ALTER TABLE public.audit_entries DISABLE TRIGGER audit_entries_no_delete;
    ALTER TABLE public.audit_entries DISABLE TRIGGER audit_entries_no_row_delete;
    DELETE FROM public.audit_entries WHERE id IN (
        SELECT id FROM public.audit_entries WHERE at < before ORDER BY at LIMIT 5000
    );
    GET DIAGNOSTICS pruned = ROW_COUNT;
    ALTER TABLE public.audit_entries ENABLE ALWAYS TRIGGER audit_entries_no_delete;
    ALTER TABLE public.audit_entries ENABLE ALWAYS TRIGGER audit_entries_no_row_delete;
    RETURN pruned;
END
$$;
REVOKE ALL ON FUNCTION public.audit_prune(timestamptz) FROM PUBLIC;
"""

# If server_sql was run before this migration, the owner takes the trail over.
HAND_OVER = """
DO $$
BEGIN
    IF to_regprocedure('public.audit_take_over()') IS NOT NULL THEN
        PERFORM public.audit_take_over();
    END IF;
END
$$;
"""

UNDO = """
DROP FUNCTION public.audit_prune(timestamptz);
DROP TRIGGER audit_entries_no_update ON public.audit_entries;
DROP TRIGGER audit_entries_no_delete ON public.audit_entries;
DROP TRIGGER audit_entries_no_truncate ON public.audit_entries;
DROP TRIGGER audit_entries_no_row_update ON public.audit_entries;
DROP TRIGGER audit_entries_no_row_delete ON public.audit_entries;
DROP FUNCTION public.audit_entries_refuse();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("organizations", "0002_audit_entries_and_throttle_counters"),
    ]

    operations = [
        migrations.RunSQL(REFUSE + TRIGGERS + PRUNE, reverse_sql=UNDO),
        migrations.RunSQL(HAND_OVER, reverse_sql=migrations.RunSQL.noop),
    ]
