"""Speech: audio files, speech synthesis and a story world."""
