"""Listing of a corpus: its manifest, its skips and a report on both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from speechscale.datasets.corpora import open_corpus
from speechscale.datasets.corpora.corpus_manifest import CorpusSummary, write_corpus_manifest
from speechscale.datasets.corpora.source import CorpusSource
from speechscale.datasets.corpora.splits import SplitOptions
from speechscale.workers.progress import spinner

__all__ = ["CorpusReport", "SplitOptions", "list_corpus"]


@dataclass(frozen=True)
class CorpusReport:
    """What was listed, as text for the terminal."""

    source: CorpusSource
    options: SplitOptions
    summary: CorpusSummary

    def __str__(self) -> str:
        summary = self.summary
        hours = sum(summary.seconds.values()) / 3600
        lines = [
            f"{summary.manifest}: {summary.utterances.total()} utterances, {hours:.2f} hours "
            f"({self.source.layout} layout)."
        ]
        for split, count in sorted(summary.utterances.items()):
            lines.append(f"  {split}: {count} utterances, {summary.seconds[split] / 3600:.2f} hours")
        if summary.test_draw:
            lines.append(f"The test set was drawn with seed {self.options.seed}: {summary.test_draw}.")
        if summary.skip_reasons:
            reasons = ", ".join(f"{count} {reason}" for reason, count in summary.skip_reasons.most_common())
            lines.append(f"{summary.skip_reasons.total()} skipped: {reasons}; {summary.skips} says why.")
        root = self.source.root
        if summary.manifest.resolve().parent != root:
            lines.append(f"Its paths are relative to {root}: give --root {root} to kmeans and encode.")
        return "\n".join(lines)


def list_corpus(
    path: Path,
    out: Path | None,
    splits: SplitOptions,
    *,
    layout: str | None = None,
    dataset: str | None = None,
    root: Path | None = None,
    trust_durations: bool = False,
) -> CorpusReport:
    """Write the manifest of a corpus.

    Args:
        path: folder of the corpus, or the file that lists its utterances.
        out: manifest to write; by default `manifest.jsonl` in the folder, or next to the file.
        splits: how the test set is chosen.
        layout: a key of `CORPUS_LAYOUTS`; by default detected from the path.
        dataset: name of the corpus, where its utterances do not state one; by default that of the path.
        root: folder that audio paths are relative to; by default that of the corpus.
        trust_durations: take stated durations without opening the audio files.

    Raises:
        UserError: there is no such corpus, it cannot be read, or none of its utterances can be used.
    """
    source = open_corpus(path, layout, dataset=dataset, root=root, trust_durations=trust_durations)
    out = out or (path if path.is_dir() else path.parent) / "manifest.jsonl"
    with spinner("reading the corpus"):
        summary = write_corpus_manifest(source, splits, out)
    return CorpusReport(source, splits, summary)
