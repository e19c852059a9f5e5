"""What every measurement uses: a PostgreSQL, servers on it, load, and rows to keep."""
