"""The report of a finished study: one self-contained HTML page, and its figures as files."""

from speechscale.report.backtest_figure import write_backtest_figure
from speechscale.report.figures import write_figures
from speechscale.report.page import write_report

__all__ = ["write_backtest_figure", "write_figures", "write_report"]
