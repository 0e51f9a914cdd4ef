import json

import pytest

from spectile.flows.commands import app as cli
from spectile.flows.run.execute import run_scene
from spectile.flows.run.settings import SceneSettings


def test_a_cube_is_compared_from_the_command_line(make_scene, tmp_path, capsys):
    scene, cube = make_scene((40, 50)), tmp_path / "cube.zarr"
    run_scene(SceneSettings(scene=str(scene), out=str(cube), model="bands-repeat", block=512))
    numbers, picture, table = tmp_path / "n.json", tmp_path / "p.png", tmp_path / "field.csv"
    table.write_text("name,x,y,500,600,700\nroof\x1b[1m,320010,4880990,20,25,30\naway,0,0,1,1,1\n")
    given = ["compare", str(cube), str(table)]
    assert cli.main([*given, "--scale", "0.01", "--radius", "2", "--json", str(numbers)]) == 0
    out = capsys.readouterr().out
    for part in ("field spectra", "roof\\x1b[1m", "RMSE", "bias", "spectral angle", "no pixel for", "away"):
        assert part in out
    assert "\x1b" not in out
    facts = json.loads(numbers.read_text())
    assert (facts["pixels"], facts["points_left_out"]) == (1, ["away"])

    assert cli.main(["compare", str(cube), str(cube), "--picture", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "same grid" in out
    assert "2000 pixels" in out
    assert picture.read_bytes().startswith(b"\x89PNG")

    for options, line in [
        ((), "use --scale 0.01 for per cent"),
        (("--scale", "0.01", "--picture", "p.jpg"), "a picture is PNG"),
        (("--json", str(cube / "a.json")), "would overwrite data"),
        (("--picture", str(tmp_path / "none" / "p.png")), "cannot write there (got --picture"),
        (("--bands-of", str(scene)), "does not say its wavelengths"),
        (("--radius", "-1"), "--radius"),
    ]:
        assert cli.main([*given, *options]) == 2
        err = capsys.readouterr().err.splitlines()
        assert line in err[-1], err


@pytest.mark.parametrize("given", [("compare",), ("compare", "--help")])
def test_compare_says_what_it_takes(given, capsys):
    cli.main([*given])
    told = capsys.readouterr()
    assert "REFERENCE" in told.out + told.err or "CUBE" in told.err
