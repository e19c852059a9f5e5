"""The measurements, one module for each question. Each returns rows."""
