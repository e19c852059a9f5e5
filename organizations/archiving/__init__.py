"""Archives an organization, leaving only a verified backup, and thaws it."""
