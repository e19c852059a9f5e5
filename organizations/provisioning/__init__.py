"""From a row in the master to a role, a database, its tables and its first admin, and back."""
