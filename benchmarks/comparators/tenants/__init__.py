"""A schema for each organization, by django-tenants."""
