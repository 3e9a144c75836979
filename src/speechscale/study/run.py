"""The stages of a study: each does what is not done yet, from the corpus to the report."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from speechscale.errors import UserError
from speechscale.jobs.encode import encode_shards, summarize_shards
from speechscale.jobs.learn_units import learn_codebook
from speechscale.jobs.samples import write_samples
from speechscale.jobs.train_run import (
    TrainingTask,
    fraction_done,
    is_done,
    record_failure,
    train_and_score_run,
)
from speechscale.laws import fit_table
from speechscale.records.law import read_law, write_law
from speechscale.records.manifest import Utterance, read_manifest
from speechscale.records.revisions import require_revisions, revisions_of
from speechscale.records.runs import RECORD, RunRecord, read_record
from speechscale.records.runs_table import read_curves, read_table, write_curves, write_table
from speechscale.records.seal import exclusive_lock, is_up_to_date, remove_leftovers, sha256_file
from speechscale.records.shards import open_shards
from speechscale.records.study import StudyFacts
from speechscale.report import write_report
from speechscale.speech.storyworld.corpus import (
    BENCHMARKS,
    STORY_CORPUS_SCHEMA,
    TEST,
    TRAIN,
    WorldSpec,
    check_world_voices,
    write_story_corpus,
)
from speechscale.speech.synthesis.alignments import phone_alignments
from speechscale.speech.waveforms import load_waveforms
from speechscale.study.branching import prune_trunks, trunks_then_branches
from speechscale.study.folder import StudyFolder
from speechscale.study.ladder import flops_trained, ladder_runs
from speechscale.study.series import shards_by_series
from speechscale.study.shards import (
    ShardFolders,
    check_input_shards,
    input_shard_folders,
    training_tasks,
    verify_shards,
)
from speechscale.study.spec import StudySpec
from speechscale.units.codebook import load_codebook
from speechscale.units.encode import plan_shards
from speechscale.units.learn import CodebookTask
from speechscale.units.source import SpeechSource
from speechscale.workers.failures import Failure
from speechscale.workers.pool import Backend, Workload, try_tasks
from speechscale.workers.progress import StageTimer, spinner

MANIFESTS = {"train": TRAIN, "test": TEST, "benchmarks": BENCHMARKS}
Log = Callable[[str], None]


def run_study(spec: StudySpec, root: Path, *, backend: Backend, log: Log = lambda _: None) -> Path:
    """Complete the study in a folder: corpus, units, series, ladder, laws, report.

    Args:
        spec: the study.
        root: its folder, new or of the same spec.
        backend: where workers run.
        log: receives a line per finished part.

    Returns:
        The path of the report.

    Raises:
        UserError: the folder belongs to another spec (the sentence names the fields) or is in use, the input shards
            differ from the spec, or a run failed; in the last case everything else is done first.
    """
    folder = StudyFolder(root.absolute())  # workers may have another working directory
    ladder_runs(spec)  # refuses an impossible ladder before any work
    if spec.corpus:
        check_input_shards(spec, spec.corpus)
    elif spec.world and not folder.corpus.exists():
        check_world_voices(spec.world)
    folder.claim(spec)
    with exclusive_lock(folder.root):
        remove_leftovers(folder.root)
        timer = StageTimer(folder.stage_seconds())
        try:
            records = _run_stages(spec, folder, timer, backend, log)
            with timer.stage("report"), spinner("report"):
                report = make_report(spec, folder, timer.seconds)
        finally:
            folder.write_stage_seconds(timer.seconds)
    failed = [f"{record.run} ({record.note})" for record in records if record.status == "failed"]
    if failed:
        raise UserError(
            f"{report} is written, but {len(failed)} runs failed: {'; '.join(failed)}. Run again to retry."
        )
    return report


def _run_stages(
    spec: StudySpec, folder: StudyFolder, timer: StageTimer, backend: Backend, log: Log
) -> list[RunRecord]:
    """All stages before the report."""
    if spec.world:
        with timer.stage("corpus"), spinner("corpus"):
            make_corpus(spec.world, folder)
        with timer.stage("k-means"):
            learn_units(spec, folder)
        with timer.stage("speech to units"):
            encode_parts(spec, folder, backend, log)
    with timer.stage("series"):
        shards = shards_by_series(spec, shard_folders(spec, folder), folder.series, log)
    with timer.stage("ladder: train and score"):
        records = run_ladder(spec, folder, shards, backend, log)
    with timer.stage("laws"), spinner("laws"):
        fit_laws(spec, folder, records, log)
    return records


def make_corpus(world: WorldSpec, folder: StudyFolder) -> None:
    """The manifests of the story world."""
    spec = world.model_dump(mode="json")
    if not is_up_to_date(
        folder.corpus, schema=STORY_CORPUS_SCHEMA, stage="story corpus", spec=spec, parents={}
    ):
        write_story_corpus(world, folder.corpus)


def learn_units(spec: StudySpec, folder: StudyFolder) -> None:
    """k-means on a seeded sample of the training utterances.

    Raises:
        UserError: there is a codebook that another revision of k-means made.
    """
    if folder.codebook.exists():
        found = load_codebook(folder.codebook).revisions
        if found:  # codebooks of other tools have none
            require_revisions(folder.codebook, found, revisions_of("k-means"))
    else:
        task = CodebookTask(
            SpeechSource(folder.corpus / TRAIN, folder.corpus, load_waveforms),
            spec.units.encoder(),
            spec.units.kmeans,
            folder.codebook,
            align_phones=phone_alignments,
        )
        learn_codebook(task)


def encode_parts(spec: StudySpec, folder: StudyFolder, backend: Backend, log: Log) -> None:
    """Every manifest to shards.

    Raises:
        UserError: no utterance of a part could be encoded.
    """
    for part, manifest in MANIFESTS.items():
        tasks = plan_shards(
            SpeechSource(folder.corpus / manifest, folder.corpus, load_waveforms),
            folder.codebook,
            folder.units(part),
            seconds=60 * spec.units.minutes_per_shard,
        )
        encoded = encode_shards(tasks, backend, label=f"{part}: speech to units")
        log(f"{part:>10}: {encoded}")


def shard_folders(spec: StudySpec, folder: StudyFolder) -> ShardFolders:
    """The shards of the study: in its folder, or the input shards of its spec."""
    if spec.corpus:
        return input_shard_folders(spec.corpus)
    return ShardFolders((folder.units("train"),), folder.units("test"), folder.units("benchmarks"))


def run_ladder(
    spec: StudySpec, folder: StudyFolder, shards: Mapping[str, ShardFolders], backend: Backend, log: Log
) -> list[RunRecord]:
    """Train and score every run without a record, and write the runs table and the learning curves."""
    tasks = training_tasks(spec, shards, folder.runs)
    missing = [task for task in tasks if not is_done(task)]
    if missing:  # verify once for all runs: a damaged shard would cost the whole ladder
        every = {shard.folder: shard for of_series in shards.values() for shard in of_series.shards()}
        verify_shards(list(every.values()), backend, folder.verified if spec.corpus else None)
    for record in train_all(missing, spec, backend):
        outcome = f"loss {record.loss:.4f}" if record.loss is not None else record.note
        log(f"{record.run:>18}  {record.status:<8}  {outcome}  {record.seconds:6.1f} s")
    if not spec.ladder.keep_trunks:
        prune_trunks(tasks)
    records = [read_record(task.folder / RECORD) for task in sorted(tasks, key=lambda task: task.spec.run)]
    write_table(records, folder.runs_table)
    write_curves(records, folder.curves_table)
    return records


def train_all(tasks: Sequence[TrainingTask], spec: StudySpec, backend: Backend) -> Iterator[RunRecord]:
    """Train and score runs, trunks before their branches.

    A run that fails, or whose worker died, is recorded as failed; the others continue.

    Yields:
        The record of each run when it ends.
    """

    def cost(task: TrainingTask) -> float:
        return flops_trained(spec, task.spec)

    for group in trunks_then_branches(tasks):
        for processes in sorted({task.spec.processes for task in group}, reverse=True):
            workload = Workload(
                label="ladder" if processes == 1 else f"ladder, {processes} processes per run",
                gpu=any(task.spec.device != "cpu" for task in group),
                processes=processes,
                weight=cost,
                fraction=fraction_done,
            )
            of_size = [task for task in group if task.spec.processes == processes]
            for task, outcome in try_tasks(train_and_score_run, of_size, backend, workload):
                yield record_failure(task, str(outcome)) if isinstance(outcome, Failure) else outcome


def fit_laws(
    spec: StudySpec, folder: StudyFolder, records: Sequence[RunRecord], log: Log = lambda _: None
) -> None:
    """Fit the laws to the runs table, unless a readable law file has the same provenance.

    Raises:
        UserError: no run is done.
    """
    if not any(record.status == "done" for record in records):
        raise UserError(f"{folder.root}: no run is done, so no law can be fitted; see runs/*/record.json.")
    provenance = {
        "revisions": revisions_of("fit"),
        "runs": sha256_file(folder.runs_table),
        "curves": sha256_file(folder.curves_table),
        **spec.laws.model_dump(),
    }
    if folder.law.exists():
        try:
            if read_law(folder.law).provenance == provenance:
                return
        except UserError as error:
            log(f"{error} The laws are fitted again.")
    law = fit_table(
        read_table(folder.runs_table),
        curves=read_curves(folder.curves_table),
        bootstrap=spec.laws.bootstrap,
        seed=spec.laws.seed,
    )
    write_law(law.model_copy(update={"provenance": provenance}), folder.law)


def make_report(spec: StudySpec, folder: StudyFolder, seconds: dict[str, float]) -> Path:
    """Write the audio samples, study.json with its facts, and the report; returns the path of the report."""
    if spec.world:
        write_samples(folder.root, folder.codebook, _utterances_to_listen_to(folder), load_waveforms)
    folder.write_study(spec, study_facts(spec, folder), seconds)
    return write_report(folder.root)


def study_facts(spec: StudySpec, folder: StudyFolder) -> StudyFacts:
    """Counts of the corpus and its units."""
    shards = [shard for part in shard_folders(spec, folder).train for shard in open_shards(part)]
    train = summarize_shards(shards)
    of_corpus = folder.corpus / "facts.json"
    counts = json.loads(of_corpus.read_text(encoding="utf-8")) if of_corpus.exists() else {}
    return StudyFacts(
        **counts,
        audio_hours=train.seconds / 3600 or None,
        units=train.units,
        units_per_second=train.units / train.seconds if train.seconds else None,
        vocabulary=shards[0].vocabulary_size,
        skipped=train.skipped,
    )


def _utterances_to_listen_to(folder: StudyFolder) -> list[Utterance]:
    """A training story, a test utterance, and a benchmark story in a voice that does not occur in training."""
    story = next((u for u in read_manifest(folder.corpus / TRAIN) if u.dataset == "stories"), None)
    prose = next(iter(read_manifest(folder.corpus / TEST)))
    unseen_voice = next(
        u
        for u in read_manifest(folder.corpus / BENCHMARKS)
        if u.extra["condition"] == "unseen" and u.extra["task"] == "tstorycloze"
    )
    return [utterance for utterance in (story, prose, unseen_voice) if utterance]
