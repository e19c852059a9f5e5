"""From a result in JSON to goals, tables, plots and docs/performance.md."""
