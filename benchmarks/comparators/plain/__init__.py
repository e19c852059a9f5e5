"""Comparator `plain`: the product's stack on one database for everybody."""
