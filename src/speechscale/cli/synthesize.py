"""`speechscale synthesize`: speech and its manifest from text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from speechscale.cli.options import Processes


def synthesize(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; complete parts in it are kept.")],
    text: Annotated[
        Path | None,
        typer.Option(
            help="Text file (one utterance a line), .jsonl, .parquet, or a folder of them. "
            "Without it, stories of the story world."
        ),
    ] = None,
    text_field: Annotated[str, typer.Option(help="Field or column of the text.")] = "text",
    world: Annotated[str, typer.Option(help="Story world: small or large.")] = "small",
    stories: Annotated[int, typer.Option(min=1, help="Number of stories of the world.")] = 100,
    limit: Annotated[int | None, typer.Option(min=1, help="Maximum number of texts.  [default: all]")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Name of the data set.  [default: of the source]")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of texts whose source names none.")] = "train",
    engine: Annotated[str, typer.Option(help="Speech engine: espeak-ng or kokoro.")] = "espeak-ng",
    voice: Annotated[
        list[str] | None,
        typer.Option(help="Voice; repeat for several, one of which is drawn from seed and id."),
    ] = None,
    rate: Annotated[int, typer.Option(min=80, max=450, help="Words per minute.")] = 175,
    seed: Annotated[int, typer.Option(min=0, help="Seed of stories and voices.")] = 0,
    audio: Annotated[
        bool, typer.Option(help="Keep audio; without it, `encode` synthesises and discards it.")
    ] = True,
    format: Annotated[
        Literal["wav", "flac"], typer.Option(help="Of audio files; both hold 16-bit samples.")
    ] = "wav",
    minutes: Annotated[
        float, typer.Option(min=0.01, help="Minutes of speech per part, the unit of work.")
    ] = 60.0,
    workers: Processes = None,
) -> None:
    """Synthesise text: OUT/audio at 16 kHz and OUT/manifest.jsonl. An interrupted command continues when run again.

    Fields or columns `id`, `speaker` and `split` of the source are kept; a speaker has one voice.

    Example:

        speechscale synthesize --voice en-us --voice en-us+f2 -o tales

        speechscale synthesize --text stories.parquet --no-audio -o spoken
    """
    from speechscale.jobs.synthesize import AudioOptions, TextOptions, VoiceOptions, synthesize_texts

    summary = synthesize_texts(
        out,
        TextOptions(path=text, field=text_field, world=world, stories=stories, limit=limit),
        VoiceOptions(
            dataset=dataset, split=split, engine=engine, voices=tuple(voice or ()), words_per_minute=rate
        ),
        seed=seed,
        audio=AudioOptions(audio_format=format, part_seconds=60 * minutes) if audio else None,
        workers=workers,
    )
    typer.echo(f"{out}: {summary}")
