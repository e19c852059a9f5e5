"""Restores one organization: a new database from a backup, and a switch that can be undone."""
