from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from spectile.catalog.errors import UsageError
from spectile.catalog.stac.index import Query
from spectile.catalog.stac.items import check_stac, item_key
from spectile.pipeline.stac import collection as module
from spectile.pipeline.stac.collection import Collection, open_collection, write_beside
from spectile.pipeline.store.base import Changed
from spectile.pipeline.store.local import LocalStorage
from spectile.pipeline.store.opening import open_storage
from tests.catalog.items import made_up


@pytest.fixture
def catalog(tmp_path: Path) -> Collection:
    return Collection(LocalStorage(tmp_path / "stac"))


def ids(catalog: Collection, **query: Any) -> set[str]:
    return set(catalog.search(Query(**query))["id"].to_pylist())


def pending(catalog: Collection) -> list[str]:
    return list(catalog.storage.keys("pending"))


def test_what_was_added_is_found_before_and_after_the_index_is_made_again(
    catalog: Collection, tmp_path: Path
) -> None:
    added = {catalog.add(f"{tmp_path}/out/{name}.zarr", made_up(name)) for name in ("a", "b", "c")}
    assert ids(catalog) == added
    assert len(pending(catalog)) == 3
    assert catalog.rebuild().items == 3
    assert ids(catalog) == added
    assert pending(catalog) == []


def test_adding_again_replaces_the_item_and_keeps_when_it_was_created(
    catalog: Collection, tmp_path: Path
) -> None:
    cube = f"{tmp_path}/out/a.zarr"
    first = catalog.add(cube, made_up("a", status="incomplete"))
    created = catalog.get(first)["properties"]["created"]
    catalog.rebuild()
    assert catalog.add(cube, made_up("a")) == first
    said = catalog.get(first)["properties"]
    assert said["created"] == created < said["updated"]
    assert ids(catalog, status="incomplete") == set()
    assert ids(catalog, status="complete") == {first}


def test_the_index_is_brought_up_to_date_by_whoever_adds(
    catalog: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_PENDING", 3)
    added = {catalog.add(f"{tmp_path}/{n}.zarr", made_up(str(n))) for n in range(7)}
    assert len(pending(catalog)) == 1
    assert ids(catalog) == added


def test_who_comes_second_to_fold_loses_nothing(
    catalog: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = catalog.add(f"{tmp_path}/a.zarr", made_up("a"))

    def overtaken(self: LocalStorage, key: str, value: bytes, version: str) -> str:
        raise Changed(key)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "put_if", overtaken)
        catalog._fold()
    assert len(pending(catalog)) == 1
    assert ids(catalog) == {first}


def test_what_is_added_while_the_index_is_made_again_is_found(
    catalog: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = [catalog.add(f"{tmp_path}/a.zarr", made_up("a"))]
    put_if = LocalStorage.put_if

    def meanwhile(self: LocalStorage, key: str, value: bytes, version: str) -> str:
        if len(added) == 1:
            added.append(catalog.add(f"{tmp_path}/b.zarr", made_up("b")))
            catalog._fold()  # and its index is there first
        return put_if(self, key, value, version)

    monkeypatch.setattr(LocalStorage, "put_if", meanwhile)
    assert catalog.rebuild().items == 2
    assert ids(catalog) == set(added)


def test_a_search_that_may_not_write_still_finds(
    catalog: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = catalog.add(f"{tmp_path}/a.zarr", made_up("a"))
    monkeypatch.setattr(module, "MOST_PENDING", 1)

    def refuse(*_: object) -> str:
        raise PermissionError("read only")

    monkeypatch.setattr(LocalStorage, "put_if", refuse)
    assert ids(catalog) == {added}


def test_rebuild_leaves_out_what_is_not_valid_and_says_why(catalog: Collection, tmp_path: Path) -> None:
    good, bad, torn, moved = (
        catalog.add(f"{tmp_path}/{name}.zarr", made_up(name)) for name in ("a", "b", "c", "d")
    )
    item = catalog.get(bad)
    del item["properties"]["datetime"]
    catalog.storage.put(item_key(bad), json.dumps(item).encode())
    catalog.storage.put(item_key(torn), b'{"type": ')
    catalog.storage.put("items/00/elsewhere.json", json.dumps(catalog.get(moved)).encode())
    done = catalog.rebuild()
    assert done.items == 2
    assert len(done.problems) == 3
    assert "datetime" in next(line for line in done.problems if bad in line)
    assert ids(catalog) == {good, moved}


def test_an_item_that_was_removed_is_gone_from_the_index(catalog: Collection, tmp_path: Path) -> None:
    gone = catalog.add(f"{tmp_path}/a.zarr", made_up("a"))
    kept = catalog.add(f"{tmp_path}/b.zarr", made_up("b"))
    catalog.rebuild()
    catalog.storage.delete(item_key(gone))
    catalog.rebuild()
    assert ids(catalog) == {kept}


def test_the_collection_is_valid_and_rebuild_tells_its_extent(catalog: Collection, tmp_path: Path) -> None:
    catalog.add(f"{tmp_path}/a.zarr", made_up("a"))
    catalog.add(f"{tmp_path}/b.zarr", made_up("b", bbox=(-3, -4, -2, 1), taken="2020"))
    catalog.rebuild()
    said = json.loads(catalog.storage.get("collection.json") or b"")
    check_stac(said, "collection")
    assert said["extent"]["spatial"]["bbox"] == [[-3, -4, 10.1, 50.1]]
    assert said["extent"]["temporal"]["interval"][0][0] == "2020-01-01T00:00:00Z"


@pytest.mark.parametrize("method", ["get", "search", "rebuild"])
def test_a_place_without_a_catalog_is_told(catalog: Collection, method: str) -> None:
    argument = {"get": ("a-1",), "search": (Query(),), "rebuild": ()}[method]
    with pytest.raises(UsageError, match="no such item" if method == "get" else "no catalog here"):
        getattr(catalog, method)(*argument)
    assert not catalog.storage.exists()


def test_an_id_cannot_lead_out_of_the_catalog(catalog: Collection) -> None:
    with pytest.raises(UsageError, match="no such item"):
        catalog.get("../../secret")


# --- where cubes are


def href(catalog: Collection, cube: str) -> str:
    item: dict[str, Any] = catalog.get(catalog.add(cube, made_up("a")))
    return str(item["assets"]["cube"]["href"])


def test_hrefs_are_relative_below_the_folder_that_holds_the_catalog(
    catalog: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for given in ("out/a.zarr", f"{tmp_path}/out/a.zarr", (tmp_path / "out/a.zarr").as_uri()):
        assert href(catalog, given) == "../../../out/a.zarr"
    assert href(catalog, "stac/cubes/a.zarr") == "../../cubes/a.zarr"
    assert len(ids(catalog)) == 2
    # It leads there.
    key = item_key(catalog.place("out/a.zarr").item_id)
    assert (catalog.storage.root / key).parent.joinpath("../../../out").resolve() == tmp_path / "out"  # type: ignore[attr-defined]


def test_a_path_elsewhere_is_recorded_only_where_it_was_given_in_full(
    catalog: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = Collection(LocalStorage(tmp_path / "x" / "stac"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="full path"):
        inner.place("cubes/a.zarr")
    assert href(inner, f"{tmp_path}/cubes/a.zarr") == (tmp_path / "cubes/a.zarr").as_uri()
    with pytest.raises(UsageError, match="full path"):
        Collection(LocalStorage(Path("/stac"))).place("cubes/a.zarr")


def test_no_item_tells_the_machines_folders(
    catalog: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    catalog.add("out/a.zarr", made_up("a"))
    write_beside(LocalStorage(tmp_path / "out" / "a.zarr"), made_up("a"))
    catalog.rebuild()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert str(tmp_path).encode() not in path.read_bytes(), path
            assert tmp_path.name.encode() not in path.read_bytes(), path


def test_an_item_beside_its_cube_needs_no_catalog(tmp_path: Path) -> None:
    place = write_beside(LocalStorage(tmp_path / "a.zarr"), made_up("a"))
    assert place == str(tmp_path / "a.stac.json")
    item = json.loads(Path(place).read_bytes())
    check_stac(item, "item")
    assert item["assets"]["cube"]["href"] == "./a.zarr"
    assert "collection" not in item
    assert not {"root", "collection"} & {link["rel"] for link in item["links"]}


def test_the_environment_names_the_catalog_where_nothing_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(module.ENVIRONMENT, raising=False)
    assert open_collection(None) is None
    monkeypatch.setenv(module.ENVIRONMENT, str(tmp_path / "a"))
    assert str(open_collection(None).storage) == str(tmp_path / "a")  # type: ignore[union-attr]
    assert str(open_collection("b").storage) == "b"  # type: ignore[union-attr]


# --- many at once


def _add_some(root: str, worker: int, count: int, start: Any) -> None:
    module.MOST_PENDING = 5
    catalog = Collection(LocalStorage(Path(root) / "stac"))
    start.wait()
    for number in range(count):
        name = f"w{worker}n{number}"
        catalog.add(f"{root}/out/{name}.zarr", made_up(name))
    Path(root, f"{worker}.done").touch()


def test_processes_that_add_at_once_lose_no_item(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")  # threads of other tests do not survive a fork
    start = context.Barrier(2)
    workers = [context.Process(target=_add_some, args=(str(tmp_path), n, 9, start)) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    # Not the exit codes: threads of pyarrow sometimes abort a process at its very end, when all is written.
    assert sorted(path.name for path in tmp_path.glob("*.done")) == ["0.done", "1.done"]
    catalog = Collection(LocalStorage(tmp_path / "stac"))
    expected = {f"w{worker}n{number}" for worker in range(2) for number in range(9)}
    assert sorted(catalog.search(Query())["title"].to_pylist()) == sorted(expected)
    assert catalog.rebuild() == module.Rebuilt(18, ())
    assert not list(tmp_path.rglob("*.partial"))


# --- in a bucket


@pytest.fixture
def bucket(object_server: Any) -> Collection:
    return Collection(open_storage("s3://bucket/all/stac"))


def test_a_catalog_in_a_bucket(bucket: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PENDING", 2)
    near = bucket.add("s3://bucket/all/out/a b.zarr", made_up("a b"))
    far = bucket.add("gs://other/out/b.zarr", made_up("b"))
    local = bucket.add(str(tmp_path / "c.zarr"), made_up("c"))
    assert ids(bucket) == {near, far, local}
    assert bucket.get(near)["assets"]["cube"]["href"] == "../../../out/a b.zarr"
    assert bucket.get(far)["assets"]["cube"]["href"] == "gs://other/out/b.zarr"
    with pytest.raises(UsageError, match="full path"):
        bucket.place("c.zarr")
    assert bucket.rebuild().items == 3
    assert ids(bucket, bbox=(9, 49, 11, 51)) == {near, far, local}


def test_a_cube_in_a_bucket_and_a_catalog_here(catalog: Collection) -> None:
    assert href(catalog, "s3://bucket/out/a.zarr") == "s3://bucket/out/a.zarr"


@pytest.mark.parametrize("name", ["a", "of May, 50 %"])
def test_the_place_of_an_items_cube_leads_there(tmp_path: Path, name: str) -> None:
    for catalog, cube in (
        (Collection(LocalStorage(tmp_path / "stac")), str(tmp_path / "out" / f"{name}.zarr")),
        (Collection(LocalStorage(tmp_path / "deep" / "stac")), str(tmp_path / "out" / f"{name}.zarr")),
    ):
        place = catalog.cube(catalog.add(cube, made_up(name)))
        assert str(open_storage(place)) == cube
    with pytest.raises(UsageError, match="no such item"):
        catalog.cube("../../a")
