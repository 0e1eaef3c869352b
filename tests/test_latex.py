"""The LaTeX of every table compiles, without a box that leaves the page."""

import re
import shutil
import subprocess

import pytest

from flowbench.compare import compare
from flowbench.layouts import get_layout, layout_names
from flowbench.outcomes import RunOutcomes
from flowbench.paper_table import TableOptions, paper_table
from flowbench.ranking import rank
from flowbench.table_formats import to_latex
from flowbench.tables import RunSummary, aggregate

AWKWARD = "mine_%$#&{}~^\\<>|[*.py:Agent"
PAPERS = [name for name in layout_names() if name != "generic"]
DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs,graphicx}
\begin{document}
\noindent
%s
\end{document}
"""


@pytest.fixture
def compiled(tmp_path):
    """Return a function that compiles a table and returns the log."""
    if shutil.which("pdflatex") is None:
        pytest.skip("needs pdflatex, e.g. apt-get install texlive-latex-recommended")

    def compile_(table):
        (tmp_path / "table.tex").write_text(DOCUMENT % to_latex(table, "flowbench table"))
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
        assert ran.returncode == 0, ran.stdout[-2000:]
        log = (tmp_path / "table.log").read_text(errors="replace")
        assert "Missing character" not in log
        # A word of a note may stand out by a letter.
        assert [width for width in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log) if float(width) > 20] == []
        return log

    return compile_


@pytest.mark.parametrize("name", PAPERS)
def test_every_layout_compiles_with_its_published_rows(compiled, write_run, name):
    layout = get_layout(name)
    if layout.published:
        compiled(paper_table(layout))
    else:
        compiled(paper_table(layout, [RunSummary.read(write_run("r1", agent=AWKWARD))]))


def test_a_papers_table_compiles_with_runs_of_awkward_names(compiled, write_run):
    layout = get_layout("avdc-metaworld")
    tasks = layout.columns[-1].tasks
    runs = [
        RunSummary.read(
            write_run(name, suite="metaworld11", protocol="avdc", tasks=tasks, cameras=("corner",), agent=agent)
        )
        for name, agent in (("r_1", AWKWARD), ("r%2", "zero"))
    ]
    compiled(paper_table(layout, runs, TableOptions(errors="failure")))


def test_generic_tables_comparisons_and_rankings_compile(compiled, write_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = [write_run(f"r_{index}", agent=f"{AWKWARD}{index}").name for index in range(3)]
    compiled(aggregate([RunSummary.read(folder) for folder in folders], ("task-camera", "overall")))
    outcomes = [RunOutcomes.read(folder) for folder in folders]
    compiled(compare(*outcomes[:2]))
    compiled(rank(outcomes))
