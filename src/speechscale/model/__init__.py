"""The language model: its shape and counts (no torch), and the transformer itself in one file."""
