"""The language model: its shape and counts (without torch), and the transformer itself in one file."""
