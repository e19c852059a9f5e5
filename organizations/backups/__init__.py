"""Backups of organizations: made, verified by restoring, kept for a while, removed."""
