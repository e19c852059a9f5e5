"""What the product is compared with: the same view on other ways to separate organizations."""
