import copy

from spectile.catalog.errors import BlockError, SceneError, SpectileError, UsageError


def test_an_error_says_what_where_got_expected_and_the_remedy_in_one_line():
    error = SceneError("wrong number\nof bands", where="a.tif", got=2, expected=3, remedy="give RGB")
    assert str(error) == "a.tif: wrong number of bands (got 2, expected 3); give RGB"


def test_errors_tell_bad_usage_from_failed_runs():
    assert SceneError("x").exit_code == UsageError("x").exit_code == 2
    assert BlockError("x").exit_code == SpectileError("x").exit_code == 1


def test_an_error_survives_the_trip_from_a_worker():
    error = BlockError("cannot be read", where="r0001c0002", got="zeros")
    back = copy.deepcopy(error)
    assert type(back) is BlockError
    assert str(back) == str(error)
