from pathlib import Path

import pytest

from spectile.catalog.files import replacing, write_text

ROOT = Path(__file__).parents[2]


def test_a_file_is_replaced_in_one_step(tmp_path):
    path = tmp_path / "a.json"
    write_text(path, "old")
    with replacing(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
        assert part.parent == path.parent
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("before", [None, "old"])
def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path, before):
    path = tmp_path / "a.json"
    if before:
        write_text(path, before)
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half of it \ud800")  # which UTF-8 cannot hold
    assert [each.read_text() for each in tmp_path.iterdir()] == ([before] if before else [])


def test_no_other_module_writes_and_replaces_in_its_own_way():
    sources = [path for folder in ("catalog", "pipeline", "flows") for path in ROOT.glob(f"{folder}/**/*.py")]
    found = {path.name for path in sources if "os.replace(" in path.read_text()}
    # An export is several files, a storage compares under a lock.
    assert found == {"files.py", "export.py", "local.py"}
