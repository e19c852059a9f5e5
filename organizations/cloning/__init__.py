"""Clones organizations: copies them at one moment, neutralises the copy, and only then opens it."""
