"""`speechscale synthesize`: text in, speech and its manifest out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def synthesize(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; must not exist yet.")],
    text: Annotated[
        Path | None, typer.Option(help="Text file, one utterance a line. Without it the story world is read.")
    ] = None,
    world: Annotated[str, typer.Option(help="Story world: small or large.")] = "small",
    stories: Annotated[int, typer.Option(help="Stories of the world to read.")] = 100,
    voice: Annotated[list[str] | None, typer.Option(help="espeak-ng voice; repeat for several.")] = None,
    rate: Annotated[int, typer.Option(min=80, max=450, help="Words per minute.")] = 175,
    seed: Annotated[int, typer.Option(min=0, help="Draws stories and voices.")] = 0,
) -> None:
    """Read text aloud: OUT/audio/*.wav at 16 kHz and OUT/manifest.jsonl.

    Example:

        speechscale synthesize --stories 20 --voice en-us --voice en-us+f2 -o tales
    """
    from speechscale.speech.reading_aloud import read_aloud, story_texts, utterances_of
    from speechscale.study.engine import progress_bar

    lines = read_lines(text) if text else story_texts(world, stories, seed)
    utterances = utterances_of(lines, text.stem if text else "stories", voice or ["en-us"], rate, seed)
    with progress_bar() as bar:
        row = bar.add_task("speaking", total=len(utterances))
        spoken, skipped = read_aloud(utterances, out, tick=lambda: bar.advance(row))
    typer.echo(f"{out}: {spoken} utterances spoken, {skipped} skipped (skips.jsonl says why).")


def read_lines(path: Path) -> list[str]:
    from speechscale.errors import UserError

    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error}).") from error
