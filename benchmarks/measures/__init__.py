"""What is measured, one module for each question. Each gives rows."""
