"""The product's stack on one database for everybody."""
