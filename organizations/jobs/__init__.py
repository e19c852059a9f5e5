"""Background jobs: durable, stored in the master database, run by `manage.py worker`."""
