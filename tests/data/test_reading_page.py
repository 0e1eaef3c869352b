"""The example in docs/reading-demonstrations.md runs."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reading-demonstrations.md"


def test_the_training_example_runs_and_prints_what_its_comments_say(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch", reason="torch is not installed")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    example = next(block for block in blocks if "DataLoader" in block)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, str(PAGE), "exec"), {"__name__": "example"})
    # Four of five demonstrations of 30 steps.
    assert capsys.readouterr().out == "torch.Size([8, 2, 64, 64, 3]) torch.Size([8, 16, 7]) 120\n"


def test_every_format_is_on_the_page():
    from flowbench.data.readers import FORMATS

    assert all(f"`{name}`" in PAGE.read_text() for name in FORMATS)
