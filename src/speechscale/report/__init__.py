"""The report of a finished study: one self-contained HTML page, and its figures as files."""

from speechscale.report.figures import write_figures
from speechscale.report.page import write_report

__all__ = ["write_figures", "write_report"]
