"""Plain functions, one module per step; none of them knows Dagster."""
