"""Units to what the model reads: windows over a concatenated corpus, in true epochs."""
