"""Documents: links lead somewhere, and the CSB example prints what the page says."""

import re
from pathlib import Path

import pytest

from golden import timing, writing
from scripts.verilator import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_files_exist(page: Path) -> None:
    named = re.findall(r"`((?:arch|docs|golden|requirements|rtl|scripts|tb|tests)/[\w./-]+\.\w+)", page.read_text())
    placeholders = {name for name in named if "NAME" in name}
    assert [name for name in named if name not in placeholders and not (ROOT / name).exists()] == []


def test_decisions_are_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"\[(\d{4})\]\((\d{4}[\w-]+\.md)\)", (folder / "README.md").read_text())
    assert [name for _, name in listed] == sorted(path.name for path in folder.glob("[0-9]*.md"))
    for number, name in listed:
        assert name.startswith(number)
        assert (folder / name).read_text().startswith(f"# {int(number)}. ")


def test_csb_example_prints_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "csb.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (output,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    exec(compile(code, "docs/csb.md", "exec"), {})
    assert capsys.readouterr().out == output


def test_timing_constants() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (\d+) \|", (ROOT / "docs" / "timing.md").read_text(), re.MULTILINE)
    assert len(rows) >= 10
    for name, value in rows:
        assert int(value) == getattr(timing, name, None) or int(value) == getattr(writing, name, None), name
