"""Comparator `naive`: a database for each organization, with aliases added at run time."""
