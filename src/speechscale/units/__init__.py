"""Waveform to discrete units: an encoder gives frames, k-means names them, collapse drops repetitions."""
