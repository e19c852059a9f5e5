"""Creates and drops an organization's role, database, tables and first admin."""
