"""The one error that a person is meant to read."""


class UserError(ValueError):
    """Bad input, said in a sentence: what, where, what was found, what was wanted, what to do.

    The command line prints the sentence alone, without a traceback, and exits with status 1.
    """


def nearest(word: str, known: list[str] | tuple[str, ...] | set[str]) -> str:
    """` (did you mean 'x'?)` for the closest known word, or nothing when none is close."""
    from difflib import get_close_matches

    close = get_close_matches(word, sorted(known), n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""
