"""Clones of organizations: copied at one moment, neutralised, and only then in use."""
