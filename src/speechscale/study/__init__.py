"""A whole study from one TOML file: its spec, its ladder of runs, and doing what is not done yet."""
