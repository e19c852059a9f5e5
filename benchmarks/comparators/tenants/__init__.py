"""Comparator `django-tenants`: a schema for each organization."""
