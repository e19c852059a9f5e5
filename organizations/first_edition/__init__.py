"""Takes over the organizations of the FastAPI edition, whose databases are only read."""
