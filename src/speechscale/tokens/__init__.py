"""Model input from units: tokens, and windows of them in true epochs."""
