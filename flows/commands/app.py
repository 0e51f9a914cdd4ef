"""The command line: parse, build the settings, call one function.

Nothing heavy is imported up here, so that ``spectile --help`` answers at once.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from spectile.catalog.errors import SpectileError, UsageError
from spectile.catalog.files import write_text
from spectile.catalog.limits import LAST_SEED
from spectile.catalog.redaction import redact_url
from spectile.flows.console import console

if TYPE_CHECKING:
    from rich.console import Console

    from spectile.flows.run.line import LineSettings
    from spectile.flows.run.settings import SceneSettings

LOG = logging.getLogger("spectile")

STOPPED = 130
"""Exit code of a run that was stopped, as shells have it."""

app: typer.Typer = typer.Typer(
    name="spectile",
    help="Turn a whole RGB scene into a georeferenced hyperspectral Zarr cube.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    pretty_exceptions_enable=False,
    add_completion=False,
)

benchmark: typer.Typer = typer.Typer(help="Measure what a run costs on this machine.")
app.add_typer(benchmark, name="benchmark")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print("spectile", version("spectile"))
        except PackageNotFoundError:
            print("spectile, not installed")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def parse_bytes(text: str) -> int:
    """Bytes of a text such as ``4GB``, ``500MB`` or ``2GiB``; a bare number counts bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([kMGT]?)(i?)B)?", text.strip(), re.IGNORECASE)
    if not match:
        raise typer.BadParameter(f"{text!r} is no amount of memory; give e.g. 4GB, 500MB or 2GiB")
    number, prefix, binary = match.groups(default="")
    power = ("", "k", "m", "g", "t").index(prefix.lower())
    count = int(float(number) * (1024 if binary else 1000) ** power)
    if count < 1:
        raise typer.BadParameter("memory must be more than nothing")
    return count


def _parse_region(text: str) -> tuple[float, float, float, float]:
    try:
        x_min, y_min, x_max, y_max = (float(part) for part in text.split(","))
    except ValueError as err:
        raise typer.BadParameter(f"{text!r} is not XMIN,YMIN,XMAX,YMAX") from err
    if not (x_min < x_max and y_min < y_max):
        raise typer.BadParameter(f"{text!r} is empty: XMIN,YMIN must be below XMAX,YMAX")
    return x_min, y_min, x_max, y_max


def _parse_rgb(text: str) -> tuple[int, int, int]:
    try:
        red, green, blue = (int(part) for part in text.split(","))
    except ValueError as err:
        raise typer.BadParameter(f"{text!r} is not three band numbers R,G,B") from err
    return red, green, blue


def _parse_layers(text: str) -> tuple[str, ...]:
    return () if text == "none" else tuple(text.split(","))


def _parse_steps(text: str) -> tuple[int, ...]:
    try:
        steps = tuple(int(part) for part in text.split(","))
    except ValueError as err:
        raise typer.BadParameter(f"{text!r} is not a list of step counts") from err
    if min(steps) < 1 or len(set(steps)) < len(steps):
        raise typer.BadParameter(f"{text!r}: steps are different numbers from 1 on")
    return steps


@app.command(no_args_is_help=False)
def run(
    scene: Annotated[
        str,
        typer.Argument(
            metavar="SCENE", help="The RGB raster, a path or URL: GeoTIFF, JPEG 2000, PNG, JPEG, ENVI."
        ),
    ],
    out: Annotated[
        str, typer.Option(metavar="CUBE.zarr", help="The Zarr store to write, a path, s3:// or gs://.")
    ],
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME|PATH", help="Name of a model (see spectile models) or a checkpoint folder."
        ),
    ] = "vnir48",
    steps: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Solver steps of each stage.", show_default="the checkpoint's"),
    ] = None,
    samples: Annotated[
        int,
        typer.Option(min=1, metavar="K", help="Samples drawn at each pixel; the cube holds their mean."),
    ] = 1,
    layers: Annotated[
        Any,
        typer.Option(
            parser=_parse_layers,
            metavar="sd,q05,…",
            help="What it holds beside the mean: standard deviation, quantiles q05 and q95 (4 samples or "
            "more), quality, rgb_consistency, overlap_disagreement; or none.",
            show_default="quality,rgb_consistency, and sd where K is 2 or more",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=LAST_SEED, metavar="S", help="Seed of the noise.")] = 0,
    tile: Annotated[int, typer.Option(min=1, metavar="PX", help="Side of a tile, halo included, px.")] = 256,
    halo: Annotated[
        int, typer.Option(min=0, metavar="PX", help="Overlap on each side of a tile's core, px.")
    ] = 32,
    block: Annotated[
        int | None,
        typer.Option(min=1, metavar="PX", help="Side of a block, px.", show_default="what --memory allows"),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Tiles a network call.", show_default="the device's"),
    ] = None,
    memory: Annotated[
        int, typer.Option(parser=parse_bytes, metavar="SIZE", help="Memory to stay within, e.g. 500MB, 2GiB.")
    ] = "4GB",  # type: ignore[assignment]
    radiometry: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="What the scene's numbers mean: reflectance, display, display:GAIN, display/PEAK (for "
            "floats) or dn:OFFSET,SCALE for reflectance = (DN - OFFSET) * SCALE.",
            show_default="the file's own metadata",
        ),
    ] = None,
    nodata: Annotated[
        Literal["all", "any"],
        typer.Option(help="Mask a pixel where all or any channels hold the nodata value."),
    ] = "all",
    rgb: Annotated[
        Any,
        typer.Option(
            parser=_parse_rgb,
            metavar="R,G,B",
            help="Band numbers of red, green and blue, from 1.",
            show_default="the file's own",
        ),
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where the network runs.")] = "auto",
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16"],
        typer.Option(help="What the network computes in; auto is the fastest that was held to float32."),
    ] = "auto",
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the network first: a minute or two, then faster.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Processes of this machine that make blocks.",
            show_default="this one; one for each of several GPUs",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="A network's threads on the CPU.", show_default="the cores; 1 in workers"
        ),
    ] = None,
    dask_address: Annotated[
        str | None,
        typer.Option(metavar="tcp://HOST:PORT", help="Use a running dask cluster."),
    ] = None,
    block_retries: Annotated[
        int, typer.Option(min=0, metavar="N", help="How often a block that fails is tried again.")
    ] = 2,
    prefect: Annotated[
        bool, typer.Option("--prefect", help="Run as a Prefect flow, on a server of its own if none is set.")
    ] = False,
    region: Annotated[
        Any,
        typer.Option(
            parser=_parse_region,
            metavar="XMIN,YMIN,XMAX,YMAX",
            help="Part of the scene, in units of its CRS.",
            show_default="the whole scene",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an unfinished cube.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a cube that is there.")] = False,
    allow_vrt: Annotated[
        bool, typer.Option("--allow-vrt", help="Take a VRT of TIFFs in its folder or below as the scene.")
    ] = False,
    allow_private: Annotated[
        bool,
        typer.Option("--allow-private", help="Let URLs lead to addresses that are not public."),
    ] = False,
    checksum: Annotated[
        bool,
        typer.Option("--checksum", help="Read a scene by URL whole for its sha256, not just its ETag."),
    ] = False,
    max_block_time: Annotated[
        float | None,
        typer.Option(
            min=0.001, metavar="S", help="Fail a block that takes the network longer.", show_default="none"
        ),
    ] = None,
    lease: Annotated[
        float,
        typer.Option(min=1, metavar="S", help="After so long without a sign of life another run takes over."),
    ] = 60.0,
    datetime: Annotated[
        str | None,
        typer.Option(
            metavar="TIME|START/END",
            help="When the scene was taken, UTC, for the STAC item.",
            show_default="the file's own metadata",
        ),
    ] = None,
    catalog: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER|URL",
            help="STAC catalog to add the cube to.",
            show_default="the environment's SPECTILE_CATALOG",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what the run would cost, write no cube.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write plan and result as JSON.")
    ] = None,
) -> None:
    """Turn an RGB scene into a hyperspectral cube.

    Writes CUBE.zarr and a quicklook picture beside it. A run that was stopped goes on with --resume.
    """
    from rich.console import Console

    # Rich would take the width of an unknown terminal and cut the log lines.
    screen = Console(stderr=True, soft_wrap=True)
    console.log_to(screen)
    LOG.info("reading %s", redact_url(scene))
    _check_json(json_file, scene, out)
    from spectile.flows.run.settings import SceneSettings

    settings = SceneSettings(
        scene, out, model, steps, samples, layers, seed, tile, halo, block, batch, memory, radiometry, nodata,
        rgb, device, dtype, compiled, region, resume, overwrite, allow_vrt, allow_private, checksum,
        workers=workers, threads=threads, dask_address=dask_address, block_retries=block_retries,
        max_block_time=max_block_time, lease=lease, datetime=datetime, catalog=catalog,
    )  # fmt: skip
    process(settings, screen, prefect=prefect, dry_run=dry_run, json_file=json_file)


def process(
    settings: SceneSettings | LineSettings,
    screen: Console,
    *,
    prefect: bool,
    dry_run: bool,
    json_file: Path | None,
) -> None:
    """Carry out a run, or plan it only, and print and write what came of it."""
    from spectile.flows.run.execute import report
    from spectile.flows.run.line import check_line_start, prepare_line
    from spectile.flows.run.planning import check_start, prepare
    from spectile.flows.run.settings import SceneSettings

    if dry_run:
        if isinstance(settings, SceneSettings):
            check_start(settings, [settings.scene])
            facts = report(prepare(settings, dry=True))
        else:
            check_line_start(settings)
            facts = report(prepare_line(settings, dry=True))
        console.print_pairs(console.plan_pairs(facts))
    else:
        facts = _run(settings, screen, prefect=prefect)
        console.print_pairs(console.result_pairs(facts))
    if json_file is not None:
        _write_json(json_file, facts)
    failures = () if dry_run else facts["result"]["failures"]
    if failures:
        raise SpectileError(
            f"{len(failures)} of {facts['plan']['blocks']} blocks failed: {failures[0]}",
            where=facts["result"]["cube"],
        )


def _run(settings: SceneSettings | LineSettings, screen: Console, *, prefect: bool) -> dict[str, Any]:
    """The report of a run, through the flow where a server is wanted or set, else without Prefect."""
    with _stoppable(), console.RunProgress(screen) as progress:
        try:
            if not prefect and not os.environ.get("PREFECT_API_URL"):
                from spectile.flows.run.execute import report, run_scene
                from spectile.flows.run.line import run_line
                from spectile.flows.run.settings import SceneSettings

                if isinstance(settings, SceneSettings):
                    return report(*run_scene(settings, observer=progress))
                return report(*run_line(settings, observer=progress))
            return _run_flow(settings, progress)
        except KeyboardInterrupt:
            done = f"{progress.blocks_done} of {progress.blocks} blocks are done" if progress.blocks else ""
            message = f"stopped; {done or 'no block was started'}; run again with --resume"
    print(message, file=sys.stderr)
    raise typer.Exit(STOPPED)


def _run_flow(settings: SceneSettings | LineSettings, progress: console.RunProgress) -> dict[str, Any]:
    from dataclasses import asdict

    from spectile.flows.deployed.server import local_server, server_configured
    from spectile.flows.run.line import flat_settings
    from spectile.flows.run.settings import SceneSettings

    places = (settings.scene,) if isinstance(settings, SceneSettings) else (*settings.scenes, *settings.add)
    for place in places:
        if redact_url(place) != place:
            raise UsageError(
                "Prefect would record the URL's signature", where=place,
                remedy="run without Prefect, or use s3:// with credentials in the environment",
            )  # fmt: skip
    with ExitStack() as stack:
        if not server_configured():
            LOG.info("starting a Prefect server for this run")
            LOG.info("the Prefect server is at %s", stack.enter_context(local_server()))
        from spectile.flows.deployed.flight_line import process_flight_line
        from spectile.flows.deployed.scene import process_scene

        stack.enter_context(console.observed_by(progress))
        if isinstance(settings, SceneSettings):
            state = process_scene(**asdict(settings), return_state=True)
        else:
            state = process_flight_line(**flat_settings(settings), return_state=True)
        facts = state.result(raise_on_failure=False)
    if isinstance(facts, BaseException):
        raise facts
    assert isinstance(facts, dict)
    return facts


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM stop a run as Ctrl-C does."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _check_json(path: Path | None, scene: str, out: str) -> None:
    """Refuse a place for the report that would be found out only after the run."""
    if path is None:
        return
    folder = path.absolute().parent
    if not folder.is_dir() or path.is_dir() or not os.access(folder, os.W_OK):
        raise UsageError(
            "cannot write there", got=f"--json {path}", expected="a file in a folder that exists"
        )
    target, read, written = (Path(os.path.realpath(each)) for each in (path, scene, out))
    if target == read or target.is_relative_to(written):
        raise UsageError(
            "the report would overwrite data", got=f"--json {path}", remedy="choose another file"
        )


def _write_json(path: Path, facts: dict[str, Any]) -> None:
    """Write a report in one step."""
    write_text(path, json.dumps(facts, indent=2, allow_nan=False) + "\n")


@app.command()
def info(
    cube: Annotated[str, typer.Argument(metavar="CUBE", help="A cube, finished or not.")],
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write it, and how the run stands, as JSON.")
    ] = None,
) -> None:
    """Print what a cube is: size, place, bands, model, status, how its run stands. Reads no pixel."""
    _check_json(json_file, cube, cube)
    from spectile.flows.console.describe import describe_cube, describe_run
    from spectile.pipeline.store.opening import open_storage

    pairs = describe_cube(cube)
    console.print_pairs(pairs)
    if json_file is not None:
        told = {name: str(value) for name, value in pairs.items()}
        _write_json(json_file, {**told, "run": describe_run(open_storage(cube))})


@app.command()
def verify(
    cube: Annotated[str, typer.Argument(metavar="CUBE", help="A cube.")],
    repair: Annotated[
        bool, typer.Option("--repair", help="Make again what is damaged or missing, and check again.")
    ] = False,
    scene: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCENE",
            help="The scene, to make blocks again; of a flight line a folder of them, or each.",
            show_default="the plan's URL",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME|PATH", help="The model that made it.", show_default="the plan's name"),
    ] = None,
) -> None:
    """Check that every block of a cube is there, byte for byte as it was written."""
    if (scene or model) and not repair:
        raise UsageError("--scene and --model are for --repair")
    if repair:
        from spectile.flows.run.repair import repair_cube

        _in_lines()
        with _stoppable():
            before, left = repair_cube(cube, scene or (), model)
        for problem in before.problems:
            console.print_line(f"was: {problem}")
    else:
        from spectile.pipeline.cube.verify import inspect_cube
        from spectile.pipeline.store.opening import open_storage

        left = inspect_cube(open_storage(cube))
    for problem in left.problems:
        console.print_line(problem)
    if left.problems:
        found = f"{len(left.problems)} problem(s) found"
        raise SpectileError(found, where=str(left.cube.storage), remedy="see spectile verify --repair")
    console.print_line(f"{left.cube.storage}: every block is as it was written")


@app.command()
def models() -> None:
    """List the models: bands, range, size, digest, held-out error."""
    from spectile.flows.console import describe

    console.print_table(describe.MODEL_COLUMNS, describe.describe_models())
    if held_out := describe.describe_held_out():
        print()
        console.print_table(describe.HELD_OUT_COLUMNS, held_out)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write.")] = Path("demo-out"),
    model: Annotated[str, typer.Option(metavar="NAME|PATH", help="The model to show.")] = "vnir48",
) -> None:
    """Simulate a scene, turn it into a cube, and compare with the truth and two baselines."""
    from spectile.flows.commands.demo import run_demo

    _in_lines()
    with _stoppable():
        run_demo(out, model)


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="What to train, on what: a TOML file.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The checkpoint folder to write.")],
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", envvar="SPECTILE_DATA", help="Where the recipe's data lie.")
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="Where the networks are trained.")
    ] = "auto",
) -> None:
    """Train a model from a recipe; model/recipes holds those of the shipped ones."""
    from spectile.flows.training.report import record_line
    from spectile.flows.training.train import train_from_recipe

    _in_lines()
    with _stoppable():
        table = train_from_recipe(
            recipe,
            data or Path(),
            out,
            device=device,
            progress=lambda record: LOG.info(record_line(record)),
            announce=LOG.info,
        )
    print(json.dumps(table, indent=2))


@app.command()
def evaluate(
    protocol: Annotated[
        Literal["houston-crop", "pavia-pc40-8", "houston-2018", "folder"],
        typer.Option(help="Which pixels are fitted and tested, and how (docs/evaluation.md)."),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="The scene, or the folder of scenes.",
            show_default="houston-crop: below $SPECTILE_DATA",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|PATH", help="A reflectance model, for folder; give it again for more."),
    ] = None,
    rungs: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="What to train and compare.", show_default="the whole ladder"),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Seeds of every trained rung.")] = 3,
    samples: Annotated[int, typer.Option(min=2, metavar="K", help="Samples drawn at each pixel.")] = 16,
    peaks: Annotated[
        str | None,
        typer.Option(
            "--peak",
            metavar="P,...",
            help="Peaks of the MPSNR, in the data's unit.",
            show_default="the protocol's",
        ),
    ] = None,
    training_steps: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Longest training of a rung.", show_default="each rung's"),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write every score as JSON.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a picture there; not for folder.")
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep rows there; again, it goes on where it stopped."),
    ] = None,
) -> None:
    """Measure models: train the ladder on a scene in counts, or test a model on scenes in reflectance."""
    from spectile.flows.evaluation.evaluate import COLUMNS, evaluate_by_name, table
    from spectile.flows.evaluation.rows import ROWS

    _check_json(json_file, str(data), f"{keep}/{ROWS}")

    _in_lines()
    with _stoppable():
        facts = evaluate_by_name(
            protocol, data, models=model or (), rungs=None if rungs is None else rungs.split(","),
            seeds=seeds, samples=samples, peaks=_parse_peaks(peaks), training_steps=training_steps,
            report=report, keep=keep, announce=LOG.info,
        )  # fmt: skip
    print(", ".join(f"{key}: {facts[key]}" for key in ("protocol", "unit", "rgb_bands", "peaks", "mpsnr")))
    for key in ("split", "remarks"):
        if facts[key]:
            print(f"{key}: {facts[key]}")
    console.print_table(COLUMNS, table(facts))
    if json_file is not None:
        _write_json(json_file, facts)


@benchmark.command("model")
def benchmark_model(
    model: Annotated[
        str, typer.Option(metavar="NAME|PATH", help="A model, scdm-paper included, or a checkpoint folder.")
    ] = "vnir48",
    steps: Annotated[
        Any,
        typer.Option(
            parser=_parse_steps,
            metavar="N,...",
            help="Solver steps to compare.",
            show_default="1,4,10; scdm-paper 1",
        ),
    ] = None,
    tile: Annotated[int, typer.Option(min=1, metavar="PX", help="Side of a tile, halo included, px.")] = 256,
    halo: Annotated[
        int, typer.Option(min=0, metavar="PX", help="Overlap on each side of a tile's core, px.")
    ] = 32,
    batch: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Tiles a network call.", show_default="the device's"),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Threads of torch.", show_default="the cores")
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where the network runs.")] = "auto",
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16"], typer.Option(help="What the network computes in.")
    ] = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the network first.")] = False,
    repeats: Annotated[int, typer.Option(min=1, metavar="N", help="Rounds; the median is told.")] = 3,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write every figure as JSON.")
    ] = None,
) -> None:
    """Count and time a model's parts, beside the published model at its 1000 steps."""
    from spectile.flows.benchmark import model as measures

    _check_json(json_file, model, model)
    _in_lines()
    settings = measures.ModelBenchmark(
        model, steps, tile, halo, batch, threads, device, dtype, compiled, repeats
    )
    with _stoppable():
        facts = measures.benchmark_model(settings, announce=LOG.info)
    print(*measures.heading(facts), sep="\n", end="\n\n")
    console.print_table(*measures.part_table(facts))
    print()
    console.print_table(measures.RUN_COLUMNS, measures.run_table(facts))
    if json_file is not None:
        _write_json(json_file, facts)


def _parse_peaks(text: str | None) -> tuple[float, ...]:
    try:
        peaks = tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError as err:
        raise typer.BadParameter(f"{text!r} is not a list of numbers") from err
    if not all(0 < peak < float("inf") for peak in peaks):
        raise typer.BadParameter(f"{text!r}: peaks are positive")
    return peaks


def _in_lines() -> None:
    from rich.console import Console

    console.log_to(Console(stderr=True, soft_wrap=True))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code. An expected failure is one line on stderr, a bug a traceback."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        return int(app(args=given or ["--help"], prog_name="spectile", standalone_mode=False) or 0)
    except SpectileError as err:
        console.print_error(err)
        return err.exit_code
    except typer.TyperException as err:
        message = getattr(err, "format_message", err.__str__)()
        console.print_error(f"{message.rstrip('.')}; see spectile --help")
        return UsageError.exit_code
    except BrokenPipeError:
        # Whoever read our output has gone; what is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as err:
        console.print_error(f"{err.filename or 'input/output'}: {err.strerror or err}")
        return 1
    except MemoryError:
        console.print_error("not enough memory; lower --memory, --samples or --batch")
        return 1


if __name__ == "__main__":
    # The commands that other modules add are in the app of the module by its name, which is not this one.
    from spectile.flows.commands import app as cli

    sys.exit(cli.main())

if __name__ == "spectile.flows.commands.app":  # not where a worker process reads this file as its main module
    # Their commands take the options of run.
    from spectile.flows.commands import (  # noqa: F401
        cli_benchmark,
        cli_catalog,
        cli_export,
        cli_line,
        cli_plan,
        cli_report,
        cli_view,
        cli_watch,
    )
