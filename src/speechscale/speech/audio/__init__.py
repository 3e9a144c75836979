"""Audio files: decoding, container checks, audio columns of Parquet files, writing."""
