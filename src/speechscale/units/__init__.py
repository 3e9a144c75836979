"""Discrete units from waveforms: an encoder, k-means on its frames, and the removal of repeated units."""
