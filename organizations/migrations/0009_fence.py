"""Marks each change of an organization's route, so that the fence ends the sessions from before.

By a trigger, so that no change is forgotten, also one made by hand or by earlier code:
organizations/postgres/fence.py.
"""

from django.db import migrations, models

# A mark is 32 random hexadecimal digits, and the roles that the organization had before. Between
# them the fence writes the sessions that it could not end. A fingerprint that goes back lacks a
# migration that the one before had; what schema_versions does not know counts as going back.
# `orgmgmt.same_route`: re-encrypting a password does not change it.
MARK = """
CREATE FUNCTION public.organizations_mark_fence() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF OLD.status = 'deleting' AND NEW.status = 'deleted' THEN
        NEW.pending_fence := '';
        RETURN NEW;
    END IF;
    IF coalesce(current_setting('orgmgmt.same_route', true), '') = 'on' THEN
        RETURN NEW;
    END IF;
    IF (OLD.status = 'active' AND NEW.status <> 'active')
        OR (OLD.key, OLD.slug, OLD.database_name, OLD.role_name, OLD.sealed_password)
            IS DISTINCT FROM
           (NEW.key, NEW.slug, NEW.database_name, NEW.role_name, NEW.sealed_password)
        OR (OLD.fingerprint <> NEW.fingerprint AND NOT coalesce((
            SELECT after.migrations @> before.migrations
            FROM public.schema_versions AS before, public.schema_versions AS after
            WHERE before.fingerprint = OLD.fingerprint AND after.fingerprint = NEW.fingerprint
        ), false))
    THEN
        NEW.pending_fence := concat_ws(
            ' ',
            replace(gen_random_uuid()::text, '-', ''),
            OLD.role_name,
            nullif(substr(OLD.pending_fence, 34), '')
        );
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER organizations_mark_fence BEFORE UPDATE ON public.organizations
    FOR EACH ROW WHEN (OLD.status IN ('active', 'suspended', 'deleting'))
    EXECUTE FUNCTION public.organizations_mark_fence();
"""

UNDO = """
DROP TRIGGER organizations_mark_fence ON public.organizations;
DROP FUNCTION public.organizations_mark_fence();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("organizations", "0008_fold_names"),
    ]

    operations = [
        migrations.AddField(
            model_name="organization",
            name="pending_fence",
            field=models.TextField(blank=True, db_default="", default="", editable=False),
        ),
        migrations.AddIndex(
            model_name="organization",
            index=models.Index(
                condition=~models.Q(pending_fence=""),
                fields=["id"],
                name="organizations_pending_fence",
            ),
        ),
        migrations.RunSQL(MARK, reverse_sql=UNDO),
    ]
