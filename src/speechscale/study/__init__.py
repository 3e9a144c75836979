"""A whole study from one TOML file: its spec, its ladder of runs, and the stages that are not done yet."""
