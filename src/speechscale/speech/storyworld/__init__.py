"""A seeded story world: lexicon, grammar, stories, non-words and benchmark items as text."""
