"""One page about one or more runs that needs nothing but a browser: what was scored, where it failed, and how it looks.

The page is a pure function of its inputs: `collect` reads them into a `Report`, `render` turns that into HTML, and
`save_plots` draws the same numbers for a paper.
"""

from flowbench.report.content import Report, ReportOptions, collect
from flowbench.report.page import render, write_page

__all__ = ["Report", "ReportOptions", "collect", "render", "write_page"]
