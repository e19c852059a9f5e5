"""Programs that run in their own process with Django configured, and print JSON."""
