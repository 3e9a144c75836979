"""Errors that are meant for a person, and faults of single utterances."""

from __future__ import annotations


class UserError(ValueError):
    """Bad input, said in a sentence: what, where, what was found, what was wanted, what to do.

    The command line prints the sentence alone, without a traceback, and exits with status 1.
    """


class CannotWrite(UserError):
    """The result cannot be written: no space, no permission. Other results could not be written either."""


class SampleFault(ValueError):
    """One utterance cannot be used and the fault is its own: it is skipped and recorded, and the work continues.

    Any other fault (memory, disk, a lost process) is no `SampleFault` and stops the work.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail

    def __reduce__(self) -> tuple[type[SampleFault], tuple[str, str]]:
        return type(self), (self.reason, self.detail)  # so that it can cross between processes


def nearest(word: str, known: list[str] | tuple[str, ...] | set[str]) -> str:
    """` (did you mean 'x'?)` for the closest known word, or nothing when none is close."""
    from difflib import get_close_matches

    close = get_close_matches(word, sorted(known), n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""
