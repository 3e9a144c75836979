"""Speech synthesis: engines that turn text into waveforms, and phone alignments."""
