#!/bin/sh
# Run once by the postgres image, when its data folder is made: the application's role and its
# master database. The role may create databases and roles and is no superuser; what only a
# superuser can do for it is done here (`manage.py server_sql` prints the same statements).
set -eu
psql -v ON_ERROR_STOP=1 --no-psqlrc --quiet --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\set password `cat /run/secrets/master_db_password`
CREATE ROLE orgmgmt LOGIN CREATEDB CREATEROLE PASSWORD :'password';
CREATE DATABASE master_org_db OWNER orgmgmt;
REVOKE CONNECT, TEMPORARY ON DATABASE master_org_db FROM PUBLIC;
REVOKE CONNECT, TEMPORARY ON DATABASE postgres FROM PUBLIC;
REVOKE CONNECT, TEMPORARY ON DATABASE template1 FROM PUBLIC;
SQL
