"""Programs that run inside a configured Django, in processes of their own, and print JSON."""
