"""One limit of seeds, whichever way one comes in."""

import pytest
from pydantic import TypeAdapter, ValidationError

from spectile.catalog.errors import UsageError
from spectile.catalog.fields import Seed
from spectile.catalog.limits import LAST_SEED, check_seed


def test_the_greatest_seed_is_taken_and_the_next_refused():
    check_seed(0)
    check_seed(LAST_SEED)
    for seed in (-1, LAST_SEED + 1):
        with pytest.raises(UsageError, match="seed out of range"):
            check_seed(seed)
        with pytest.raises(ValidationError):
            TypeAdapter(Seed).validate_python(seed)
