"""Audio files: decoding, container checks, rows of Parquet files."""
