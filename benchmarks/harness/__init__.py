"""What every measurement uses: PostgreSQL, web servers, load and result rows."""
