"""Text and sound: audio files, speech synthesis and a story world."""
