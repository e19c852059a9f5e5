"""A database for each organization by what is found first: aliases put in at run time."""
