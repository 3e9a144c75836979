"""Corpora and zero-shot benchmarks in the layouts in which they are released."""
