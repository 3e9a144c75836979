"""Text and sound: the story world, its benchmarks, the synthesiser, corpora on disk; all of them end in a Manifest."""
