"""Archives an organization, of which only a verified backup is left then, and thaws it."""
