"""`speechscale synthesize`: text in, speech and its manifest out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    wav = "wav"
    flac = "flac"


def synthesize(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; parts already there are kept.")],
    text: Annotated[
        Path | None,
        typer.Option(
            help="Text file (one utterance a line), .jsonl, .parquet, or a folder of them. "
            "Without it the story world is read."
        ),
    ] = None,
    text_field: Annotated[str, typer.Option(help="Field or column that holds the text.")] = "text",
    world: Annotated[str, typer.Option(help="Story world: small or large.")] = "small",
    stories: Annotated[int, typer.Option(min=1, help="Stories of the world to read.")] = 100,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many texts.  [default: all]")] = None,
    dataset: Annotated[str | None, typer.Option(help="Name of the corpus.  [default: the source's]")] = None,
    split: Annotated[str, typer.Option(help="Split, where the source names none.")] = "train",
    engine: Annotated[str, typer.Option(help="Speech engine: espeak-ng or kokoro.")] = "espeak-ng",
    voice: Annotated[
        list[str] | None, typer.Option(help="Voice; repeat for several, which are drawn by seed and id.")
    ] = None,
    rate: Annotated[int, typer.Option(min=80, max=450, help="Words per minute.")] = 175,
    seed: Annotated[int, typer.Option(min=0, help="Draws stories and voices.")] = 0,
    audio: Annotated[
        bool, typer.Option(help="Keep audio; without it `encode` speaks again and discards it.")
    ] = True,
    format: Annotated[Format, typer.Option(help="Of audio files; both hold the same samples.")] = Format.wav,
    minutes: Annotated[float, typer.Option(min=0.01, help="Speech per part, the unit of work.")] = 60.0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes.  [default: one a core]")] = None,
) -> None:
    """Read text aloud: OUT/audio at 16 kHz and OUT/manifest.jsonl. Stop it at any time and run it again to go on.

    Fields or columns `id`, `speaker` and `split` of the source are kept; a speaker has one voice.

    Example:

        speechscale synthesize --voice en-us --voice en-us+f2 -o tales

        speechscale synthesize --text stories.parquet --no-audio -o spoken
    """
    from speechscale.compute import available_cores
    from speechscale.jobs.synthesize import AudioOptions, synthesize_texts
    from speechscale.speech.read_aloud import Reading
    from speechscale.speech.synthesis.engines import default_voice
    from speechscale.speech.texts import StoryWorld, TextFiles

    source = (
        TextFiles(text, text_field, limit)
        if text
        else StoryWorld(world, min(stories, limit or stories), seed)
    )
    reading = Reading(
        dataset=dataset or source.name,
        split=split,
        engine=engine,
        voices=tuple(voice or [default_voice(engine)]),
        words_per_minute=rate,
        seed=seed,
    )
    keeping = AudioOptions(format.value, 60 * minutes) if audio else None
    told = synthesize_texts(source, reading, out, keeping, workers or available_cores())
    typer.echo(f"{out}: {told}")
