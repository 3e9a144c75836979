"""`speechscale manifest`: a corpus on disk in, its manifest out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def manifest(
    folder: Annotated[Path, typer.Argument(help="Folder of audio files (wav, flac, ogg, mp3, opus).")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Manifest to write.  [default: FOLDER/manifest.jsonl]")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Name of the corpus.  [default: the folder's]")] = None,
    split: Annotated[str, typer.Option(help="train, test, …")] = "train",
) -> None:
    """List every utterance of a corpus with its duration, one JSON line each.

    Example:

        speechscale manifest recordings --dataset mine
    """
    from speechscale.errors import SampleFault, UserError
    from speechscale.records.manifest import write_manifest
    from speechscale.records.seal import write_file
    from speechscale.speech.corpora import folder_of_audio

    found = list(folder_of_audio(folder, dataset or folder.resolve().name, split))
    utterances = [entry for entry in found if not isinstance(entry, SampleFault)]
    faults = [entry for entry in found if isinstance(entry, SampleFault)]
    path = out or folder / "manifest.jsonl"
    skips = path.with_suffix(".skips.jsonl")
    if faults:
        write_file(
            skips, "".join(json.dumps({"reason": f.reason, "detail": f.detail}) + "\n" for f in faults)
        )
    if not utterances:
        raise UserError(f"{folder}: none of {len(found)} files can be used; {skips} says why.")
    write_manifest(utterances, path)
    hours = sum(utterance.duration or 0.0 for utterance in utterances) / 3600
    told = f", {len(faults)} files skipped ({skips} says why)" if faults else ""
    typer.echo(f"{path}: {len(utterances)} utterances, {hours:.2f} hours{told}.")
    if path.resolve().parent != folder.resolve():
        typer.echo(f"Its paths are relative to {folder}: give --root {folder} to kmeans and encode.")
