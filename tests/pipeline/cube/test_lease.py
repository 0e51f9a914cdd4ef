"""A lease whose holder fails before it has begun is let go."""

import threading

import pytest

from spectile.pipeline.cube.lease import hold, read_beat
from spectile.pipeline.store.local import LocalStorage


class Unswept(LocalStorage):
    """A folder with a file that cannot be removed."""

    def sweep(self, *, beside=()) -> None:
        raise PermissionError(13, "Permission denied")


def test_a_run_that_cannot_sweep_lets_the_cube_go(tmp_path):
    with pytest.raises(PermissionError), hold(Unswept(tmp_path), 3600):
        pass
    assert read_beat(LocalStorage(tmp_path)).ended
    assert not [thread for thread in threading.enumerate() if thread.name == "lease"]
    with hold(LocalStorage(tmp_path), 3600):  # at once, without an hour of watching
        pass
