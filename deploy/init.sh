#!/bin/sh
# Run once by the postgres image when its data folder is created: makes the application's role and
# the master database. The role may create databases and roles and is no superuser. From ALTER ROLE
# on, this is what `manage.py server_sql` prints for a superuser to run.
set -eu
psql -v ON_ERROR_STOP=1 --no-psqlrc --quiet --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\set password `cat /run/secrets/master_db_password`
CREATE ROLE orgmgmt LOGIN PASSWORD :'password';
CREATE DATABASE master_org_db;
ALTER ROLE "orgmgmt" LOGIN CREATEDB CREATEROLE;
GRANT pg_use_reserved_connections TO "orgmgmt";
REVOKE CONNECT, TEMPORARY ON DATABASE postgres FROM PUBLIC;
REVOKE CONNECT, TEMPORARY ON DATABASE template1 FROM PUBLIC;
DO 'BEGIN IF to_regrole(''"orgmgmt_owner"'') IS NULL THEN CREATE ROLE "orgmgmt_owner"; END IF; END';
ALTER ROLE "orgmgmt_owner" NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
REVOKE "orgmgmt_owner" FROM "orgmgmt";
GRANT "orgmgmt" TO "orgmgmt_owner" WITH INHERIT TRUE, SET FALSE;
ALTER DATABASE "master_org_db" OWNER TO "orgmgmt_owner";
REVOKE ALL ON DATABASE "master_org_db" FROM PUBLIC, "orgmgmt";
GRANT CONNECT, TEMPORARY ON DATABASE "master_org_db" TO "orgmgmt";
\connect -reuse-previous=on "dbname='master_org_db'"
ALTER SCHEMA public OWNER TO pg_database_owner;
REVOKE ALL ON SCHEMA public FROM PUBLIC, "orgmgmt";
GRANT CREATE, USAGE ON SCHEMA public TO "orgmgmt";
CREATE OR REPLACE FUNCTION public.audit_take_over() RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS '
BEGIN
    IF to_regprocedure(''public.audit_prune(timestamptz)'') IS NULL THEN
        RETURN;
    END IF;
    ALTER TABLE public.audit_entries OWNER TO "orgmgmt_owner";
    ALTER FUNCTION public.audit_entries_refuse() OWNER TO "orgmgmt_owner";
    ALTER FUNCTION public.audit_prune(timestamptz) OWNER TO "orgmgmt_owner";
    REVOKE ALL ON public.audit_entries FROM PUBLIC, "orgmgmt";
    GRANT SELECT, INSERT ON public.audit_entries TO "orgmgmt";
    REVOKE ALL ON FUNCTION public.audit_prune(timestamptz) FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION public.audit_prune(timestamptz) TO "orgmgmt";
END
';
ALTER FUNCTION public.audit_take_over() OWNER TO "orgmgmt_owner";
REVOKE ALL ON FUNCTION public.audit_take_over() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.audit_take_over() TO "orgmgmt";
SELECT public.audit_take_over();
SQL
