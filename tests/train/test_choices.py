"""What a run may choose: masking, recomputing, compiling, trackers, mixtures; each leaves what it must leave."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from counting import MADE, counters

from speechscale.errors import UserError
from speechscale.model.transformer import Transformer, document_mask
from speechscale.records.shards import Sample, Shard, open_shards, write_shard
from speechscale.study.spec import read_run
from speechscale.tokens.batches import Windows
from speechscale.tokens.mixture import TrainingCorpus
from speechscale.train.loop import train_mixture, train_run
from speechscale.train.mixed import mixed
from speechscale.train.spec import CorpusSpec, RunSpec
from speechscale.train.trainer import NotFinite, Trainer

EOS = 16


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def losses(spec: RunSpec, shards: list[Shard], eos: int | None = None) -> list[float]:
    made = Trainer(spec, 18, Windows(shards, spec.context), eos=eos)
    return [made.update(step) for step in range(5)]


def test_a_document_does_not_see_its_neighbours(spec: RunSpec) -> None:
    torch.manual_seed(0)
    model = Transformer(spec.shape(18)).eval()
    document = torch.tensor([EOS, 3, 4, 5, 6])
    left, other, right = torch.tensor([7, 8, 9]), torch.tensor([1, 1, 2]), torch.tensor([EOS, 2, 1])
    read = []
    for before in (left, other):
        tokens = torch.cat((before, document, right))[None]
        read.append(model(tokens, document_mask(tokens, EOS))[0, 3:8])
    alone = model(document[None])[0]
    torch.testing.assert_close(read[0], read[1], rtol=0, atol=0)
    torch.testing.assert_close(read[0], alone, rtol=0, atol=1e-5)  # rotary positions are relative
    unmasked = model(torch.cat((left, document, right))[None])[0, 3:8]
    assert (unmasked - alone).abs().max() > 1e-3


def test_masking_is_part_of_what_a_run_is(spec: RunSpec, shards: list[Shard]) -> None:
    masked = spec.model_copy(update={"document_masking": True})
    assert masked.what() != spec.what()
    assert losses(masked, shards, EOS)[1:] != losses(spec, shards)[1:]


def test_recomputing_changes_no_bit(spec: RunSpec, shards: list[Shard]) -> None:
    recomputed = spec.model_copy(update={"activation_checkpointing": True})
    assert losses(recomputed, shards) == losses(spec, shards)
    assert recomputed.what() == spec.what()


@pytest.mark.slow
@pytest.mark.parametrize("how", [{}, {"activation_checkpointing": True}, {"document_masking": True}])
def test_compiling_changes_rounding_alone(spec: RunSpec, shards: list[Shard], how: dict[str, bool]) -> None:
    plain = spec.model_copy(update=how)
    eos = EOS if plain.document_masking else None
    compiled = losses(plain.model_copy(update={"compile": True}), shards, eos)
    assert compiled == pytest.approx(losses(plain, shards, eos), abs=1e-5)


def test_where_reading_is_put_off_nothing_is_updated_after_the_first_step_that_is_not_finite(
    spec: RunSpec, shards: list[Shard]
) -> None:
    """As on a GPU, which is only looked at now and then."""
    made = Trainer(spec, 18, Windows(shards, spec.context))
    made.defers = True
    batches = [made.feed.read(step) for step in range(6)]
    for step in (0, 1):
        made.advance(step, batches[step])
    with torch.no_grad():
        made.model.blocks[0].down.weight[0, 0] = float("inf")
    before = [p.clone() for p in made.model.parameters()]
    for step in (2, 3, 4):
        made.advance(step, batches[step])
    assert all(torch.equal(a, b) for a, b in zip(made.model.parameters(), before, strict=True))
    with pytest.raises(NotFinite, match="step 2: loss nan"):
        made.read(4)


def test_put_off_reading_changes_no_bit(spec: RunSpec, shards: list[Shard]) -> None:
    made = Trainer(spec, 18, Windows(shards, spec.context))
    made.defers = True
    assert [made.update(step) for step in range(5)] == losses(spec, shards)


def test_metrics_go_to_tensorboard(
    spec: RunSpec, shards: list[Shard], test_shards: list[Shard], tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracked = spec.model_copy(update={"track": "tensorboard", "metrics_steps": 5})
    train_run(tracked, shards, test_shards, tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert {"loss", "rate", "gradient_norm", "mfu"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("loss")] == [4, 9]


@pytest.mark.skipif(find_spec("wandb") is not None, reason="wandb is installed")
def test_an_absent_tracker_is_said_before_any_work(
    spec: RunSpec, shards: list[Shard], test_shards: list[Shard], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="package wandb is not installed; `pip install wandb`"):
        train_run(spec.model_copy(update={"track": "wandb"}), shards, test_shards, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def two(tmp_path: Path) -> tuple[list[Shard], list[Shard]]:
    for number, name in enumerate("cd"):
        write_shard(tmp_path / name / "shard-0", counters(np.random.default_rng(5 + number), name), [], MADE)
    return open_shards(tmp_path / "c"), open_shards(tmp_path / "d")


def test_a_mixture_of_one_corpus_trains_as_that_corpus(
    spec: RunSpec, shards: list[Shard], test_shards: list[Shard], tmp_path: Path
) -> None:
    alone = train_run(spec, shards, test_shards, tmp_path / "alone")
    in_words = spec.model_copy(update={"corpora": (CorpusSpec(shards="train", weight=2.0),)})
    _, corpora = mixed(in_words, tmp_path, [], [])
    assert train_mixture(in_words, corpora, test_shards, tmp_path / "mixed").loss == alone.loss


def test_a_mixture_counts_the_unique_tokens_of_each(
    spec: RunSpec, two: tuple[list[Shard], list[Shard]], test_shards: list[Shard], tmp_path: Path
) -> None:
    first, second = two
    record = train_mixture(
        spec, [TrainingCorpus(first, 9.0), TrainingCorpus(second, 1.0)], test_shards, tmp_path / "run"
    )
    seen = [36 * 32, 4 * 32]  # tokens of 40 windows
    limits = [Windows(shards, 32).unique_tokens for shards in two]
    assert record.unique_tokens == sum(map(min, seen, limits)) < record.tokens
    assert record.epochs == pytest.approx(record.tokens / sum(limits))


RUN = """
run = "mix"
layers = 1
dim = 16
heads = 1
batch = 4
context = 32
tokens = 1280
"""


def test_corpora_in_the_file_of_a_run(two: tuple[list[Shard], list[Shard]], tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(
        RUN + '[[corpora]]\nshards = "c"\ntokens = 960\n[[corpora]]\nshards = "d"\ntokens = 320\n'
    )
    spec, corpora = mixed(read_run(path), tmp_path, [], [])
    assert [corpus.weight for corpus in corpora] == [960, 320]
    by_hand, same = mixed(
        read_run(path).model_copy(update={"corpora": ()}),
        tmp_path,
        [tmp_path / "c", tmp_path / "d"],
        [3.0, 1.0],
    )
    assert [corpus.weight for corpus in same] == [3, 1]
    assert "shards" not in str(spec.what()) and "shards" not in str(by_hand.what())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[corpora]]\nshards = "c"\ntokens = 960', "add up to 960, tokens says 1280"),
        ('[[corpora]]\nshards = "c"\nweight = 1\n[[corpora]]\nshards = "d"', "give every corpus a weight"),
        (
            '[[corpora]]\nshards = "c"\nweight = -1.0',
            "corpora.0.weight = -1.0: Input should be greater than 0",
        ),
        ('[[corpora]]\nshard = "c"', "did you mean 'shards'"),
    ],
)
def test_corpora_that_cannot_be_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(RUN + text.replace("weight = 1\n", "weight = 1.0\n"))
    with pytest.raises(UserError, match=message):
        read_run(path)


def test_folders_and_weights_that_do_not_go_together_are_refused(spec: RunSpec, tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    named = spec.model_copy(update={"corpora": (CorpusSpec(shards="a"),)})
    for run, folders, weights, message in (
        (named, [a], [], "names corpora, and so does --shards"),
        (spec, [], [], "no training shards"),
        (named, [], [1.0], "--weight goes with --shards"),
        (spec, [a, b], [1.0], "1 --weight for 2 --shards"),
        (spec, [a, b], [1.0, 0.0], "--weight 0: a weight is a number above zero"),
        (spec.model_copy(update={"unique_tokens": 64}), [a, b], [], "unique_tokens limits one corpus"),
    ):
        with pytest.raises(UserError, match=message):
            mixed(run, tmp_path, folders, weights)


def test_test_speech_that_is_trained_on_is_refused(
    spec: RunSpec, shards: list[Shard], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"the same speech is in .*train/shard-0, so it is not held out"):
        train_run(spec, shards, shards, tmp_path / "run")
    some = counters(np.random.default_rng(3), "b")[:5] + counters(np.random.default_rng(0), "a")[:2]
    write_shard(tmp_path / "some" / "shard-0", some, [], MADE)
    with pytest.raises(UserError, match="2 of its utterances are test speech too, the first 'a0'"):
        train_run(spec, shards, open_shards(tmp_path / "some"), tmp_path / "run")


def test_units_beyond_the_vocabulary_are_refused(
    spec: RunSpec, test_shards: list[Shard], tmp_path: Path
) -> None:
    sample = Sample("x", np.append(np.arange(200) % 18, EOS).astype(np.int16), 1.0, {})
    write_shard(tmp_path / "odd" / "shard-0", [sample], [], MADE)
    (tmp_path / "odd" / "shard-0" / "audio.bin").write_bytes(
        np.append(np.full(200, 40), EOS).astype("<i2").tobytes()
    )
    with pytest.raises(UserError, match="units from 40 to 40, but the model's vocabulary ends at 17"):
        train_run(spec, open_shards(tmp_path / "odd"), test_shards, tmp_path / "run")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_an_absent_gpu_is_said_in_a_sentence(
    spec: RunSpec, shards: list[Shard], test_shards: list[Shard], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"device = 'cuda': no GPU here .*; set device = 'cpu'"):
        train_run(spec.model_copy(update={"device": "cuda"}), shards, test_shards, tmp_path / "run")


def test_out_of_memory_names_the_knob(shards: list[Shard]) -> None:
    """In a process that may not have more than half a gigabyte beyond what it starts with."""
    job = f"""
        import resource
        from speechscale.records.shards import open_shards
        from speechscale.tokens.batches import Windows
        from speechscale.train.spec import RunSpec
        from speechscale.train.trainer import Trainer
        spec = RunSpec(run="big", layers=1, dim=256, heads=1, context=32, batch=20_000, tokens=640_000)
        made = Trainer(spec, 18, Windows(open_shards({str(shards[0].folder.parent)!r}), 32))
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, used + 2**29))
        made.update(0)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(job)], capture_output=True, text=True)
    assert (
        "UserError: out of memory at step 0 with 20000 sequences of 32 per forward pass; set micro_batch = 10000."
        in done.stderr
    )


def test_memory_that_the_optimiser_lacks_asks_for_more_processes(spec: RunSpec, shards: list[Shard]) -> None:
    """Its state is made by the first step, when the passes are over: smaller ones would not help."""
    made = Trainer(spec, 18, Windows(shards, spec.context))

    def refuse(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    made.optimizer.register_step_pre_hook(refuse)
    with pytest.raises(
        UserError, match=r"out of memory at step 0 for the optimiser's state; start more processes"
    ):
        made.update(0)


@pytest.mark.parametrize("weight", [float("inf"), float("nan"), 0.0, -1.0])
def test_a_weight_that_is_no_share_is_refused(spec: RunSpec, tmp_path: Path, weight: float) -> None:
    with pytest.raises(UserError, match="a weight is a number above zero"):
        mixed(spec, tmp_path, [tmp_path / "a", tmp_path / "b"], [1.0, weight])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "tokens = 127",
            r"tokens = 127 are less than one update of batch 4 x context 32 = 128; raise tokens",
        ),
        ("peak_lr = inf", "peak_lr = inf: Input should be a finite number"),
        ("weight_decay = inf", "weight_decay = inf: Input should be a finite number"),
        ('schedule = "wsd"\ntrunk = "../other"', "trunk = '../other': String should match pattern"),
    ],
)
def test_runs_that_cannot_be_meant(tmp_path: Path, line: str, said: str) -> None:
    text = 'run = "x"\nlayers = 1\ndim = 8\nheads = 1\ncontext = 32\nbatch = 4\n'
    (tmp_path / "run.toml").write_text(text + line + ("" if "tokens" in line else "\ntokens = 128"))
    with pytest.raises(UserError, match=said) as refused:
        read_run(tmp_path / "run.toml")
    assert "Value error" not in str(refused.value)
