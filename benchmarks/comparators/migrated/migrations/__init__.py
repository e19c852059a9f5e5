"""The real migrations of accounts, and the added one."""

import accounts.migrations

# Django finds migrations on the package's path (MigrationLoader.load_disk). Those of accounts are
# the same files, so that their part of the fingerprint is the same as well.
__path__ = [*accounts.migrations.__path__, *__path__]
