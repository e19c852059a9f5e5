"""Makes goals, tables, plots and docs/performance.md from a result's JSON."""
