"""Makes backups of organizations, verifies them by restoring, and removes old ones."""
