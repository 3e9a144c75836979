"""Text to waveform: the speech engines and their phoneme times."""
