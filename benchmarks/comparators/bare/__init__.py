"""One DRF view and one query, in a project as `startproject` makes it."""
