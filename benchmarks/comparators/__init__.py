"""What ours is compared with: the same view on other ways to keep organizations apart."""
