"""Every example of docs/laws.md runs unchanged, in order, in one folder."""

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from speechscale.cli.backtest import backtest
from speechscale.cli.fit import fit
from speechscale.cli.plan import plan
from speechscale.cli.simulate import simulate

PAGE = Path(__file__).parents[2] / "docs" / "laws.md"


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False)
    for verb in (backtest, fit, plan, simulate):
        app.command()(verb)
    return app


def test_examples_run(app, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = PAGE.read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)
    commands = [
        line for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for line in block.splitlines()
    ]
    assert len(commands) >= 7
    for command in commands:
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        assert result.exit_code == 0, f"{command}: {result.output} {result.exception}"
    assert Path("law.json").exists()


def test_pictures_of_the_page_are_there():
    for picture in re.findall(r"!\[[^]]+\]\(([^)]+)\)", PAGE.read_text(encoding="utf-8")):
        assert (PAGE.parent / picture).stat().st_size > 1000
