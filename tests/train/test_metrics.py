"""metrics.jsonl and trackers."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from speechscale.errors import UserError
from speechscale.records.shards import Shard
from speechscale.train.loop import train_run
from speechscale.train.metrics import METRICS, MetricsLine, Throughput, latest_metrics, read_metrics
from speechscale.train.spec import RunSpec


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
def test_missing_tracker_package_is_refused_before_any_work(
    spec: RunSpec, shards: list[Shard], test_shards: list[Shard], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="package wandb is not installed; `pip install wandb`"):
        train_run(spec.model_copy(update={"track": "wandb"}), shards, test_shards, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_throughput_counts_from_the_last_measurement_without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    throughput = Throughput(flops_per_token=6.0, peak_flops=1200.0, wait_seconds=3.0)
    now = 104.0
    with throughput.paused():
        now = 106.0
    assert throughput.measure(200, wait_seconds=4.0) == {
        "tokens_per_second": 50.0,
        "mfu": 0.25,
        "data_wait": 0.25,
    }
    now = 108.0
    assert throughput.measure(200, wait_seconds=4.0)["tokens_per_second"] == 100.0


def test_line_cut_off_by_a_kill_is_not_read(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == [] and latest_metrics(tmp_path) is None
    (tmp_path / METRICS).write_text('{"step": 0, "loss": 3.0}\n{"step": 1, "loss": 2.5}\n{"step": 2, "lo')
    assert [line.step for line in read_metrics(tmp_path)] == [0, 1]
    assert latest_metrics(tmp_path) == MetricsLine(step=1, loss=2.5)
