"""Comparator `bare`: one DRF view and one query in a project as `startproject` makes it."""
