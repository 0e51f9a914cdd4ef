"""Values of options from their text."""

import pytest
import typer

from spectile.flows.run.texts import parse_bytes


@pytest.mark.parametrize(
    ("text", "count"),
    [("4GB", 4_000_000_000), ("500MB", 500_000_000), ("2GiB", 2 * 1024**3), ("1.5 gb", 1_500_000_000),
     ("1000000", 1_000_000), ("64kB", 64_000), ("1TB", 10**12)],
)  # fmt: skip
def test_memory_is_given_with_its_unit(text, count):
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "4XB", "0", "1e9", "inf"])
def test_what_is_no_amount_of_memory_is_refused(text):
    with pytest.raises(typer.BadParameter):
        parse_bytes(text)
