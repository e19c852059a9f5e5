"""Shared by all organizations of a server: what docs/security.md lists, and nothing else."""

import psycopg
import pytest

from tests.conftest import Company

from .helpers import as_role_of

# {db} and {role} are beta's, {own_db} and {own_role} the attacker's.
SEEN = [
    "SELECT FROM pg_database WHERE datname = '{db}' AND pg_get_userbyid(datdba) = '{role}'",
    "SELECT FROM pg_database WHERE datname = '{db}' AND datacl IS NOT NULL",
    "SELECT FROM pg_roles WHERE rolname = '{role}' AND rolconnlimit IS NOT NULL",
    "SELECT FROM pg_auth_members WHERE roleid = '{role}'::regrole",
    "SELECT FROM pg_db_role_setting WHERE setrole = '{role}'::regrole",
    "SELECT FROM pg_shdescription",
    "SELECT FROM pg_stat_activity WHERE usename = '{role}' AND application_name = 'seen by all'",
    "SELECT FROM pg_stat_database WHERE datname = '{db}' AND xact_commit > 0",
    "SELECT FROM pg_locks WHERE database = (SELECT oid FROM pg_database WHERE datname = '{db}')",
    "SELECT FROM pg_shdepend WHERE refobjid = '{role}'::regrole AND deptype = 'o'",
    "SELECT system_identifier FROM pg_control_system()",
    "SELECT pg_current_wal_lsn(), pg_current_xact_id()",
    "SELECT FROM pg_settings WHERE name = 'max_connections'",
    "SELECT FROM pg_stat_io",
    "SELECT pg_notification_queue_usage()",
]
TOUCHED = [
    "GRANT USAGE ON SCHEMA public TO {role}",
    "ALTER DATABASE {own_db} CONNECTION LIMIT 1000",
    "COMMENT ON DATABASE {own_db} IS 'what it likes'",
    "ALTER ROLE {own_role} SET work_mem = '1MB'",
    "SET work_mem = '1GB'; SET maintenance_work_mem = '1GB'; SET temp_buffers = '1GB'",
    "DO 'BEGIN RAISE LOG $x$a line of the log$x$; END'",
    "NOTIFY orgmgmt_spares",
    "SELECT pg_try_advisory_lock(77)",
]
BACK = [
    "REVOKE USAGE ON SCHEMA public FROM {role}",
    "ALTER DATABASE {own_db} CONNECTION LIMIT -1",
    "COMMENT ON DATABASE {own_db} IS NULL",
    "ALTER ROLE {own_role} RESET work_mem",
]
REFUSED = [
    "SELECT FROM pg_authid",
    "SELECT pg_database_size('{db}')",
    "SELECT subconninfo FROM pg_subscription",
    "SHOW data_directory",
    "SELECT FROM pg_hba_file_rules",
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT pg_ls_logdir()",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'",
    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = 'orgmgmt'",
    "SET ROLE {role}",
    "SET ROLE orgmgmt",
    "GRANT {role} TO {own_role}",
    "COMMENT ON ROLE {own_role} IS 'mine'",
    "ALTER ROLE {own_role} CONNECTION LIMIT 1000",
    "ALTER DATABASE {own_db} RENAME TO org_another",
    "ALTER DATABASE {own_db} OWNER TO {role}",
    "ALTER DATABASE {own_db} OWNER TO orgmgmt",
    "CREATE ROLE another",
    "CREATE DATABASE another",
    "CREATE EXTENSION dblink",
    "CREATE TABLESPACE another LOCATION '/tmp'",
    "CREATE SUBSCRIPTION s CONNECTION 'dbname=x' PUBLICATION p",
    "SELECT pg_create_logical_replication_slot('x', 'pgoutput')",
    "SET temp_file_limit = -1",
    "SET session_replication_role = 'replica'",
    "SET log_statement = 'all'",
    "SELECT pg_switch_wal()",
    "SELECT pg_stat_reset_shared('wal')",
    "CHECKPOINT",
]


def test_shared_things_can_be_touched_and_the_rest_is_refused(
    alpha: Company, beta: Company
) -> None:
    names = {
        "db": beta.organization.database_name,
        "role": beta.organization.role_name,
        "own_db": alpha.organization.database_name,
        "own_role": alpha.organization.role_name,
    }
    with as_role_of(beta.organization) as other, as_role_of(alpha.organization) as own:
        other.execute("SET application_name = 'seen by all'")
        other.execute("SELECT pg_advisory_lock(77)")
        for query in SEEN:
            assert own.execute(query.format(**names).encode()).rowcount, query
        try:
            for statement in TOUCHED:
                own.execute(statement.format(**names).encode())
        finally:
            for statement in BACK:
                own.execute(statement.format(**names).encode())
        for statement in REFUSED:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                own.execute(statement.format(**names).encode())
        other.execute("LISTEN orgmgmt_spares")
        own.execute("NOTIFY orgmgmt_spares")
        assert list(other.notifies(timeout=0.2, stop_after=1)) == [], "it crosses no database"
