"""Objects in S3 and Google Cloud Storage, for cubes and scenes; over https for scenes only.

Endpoint, region and credentials come from the environment and are never recorded. Transient failures are
retried with growing pauses; other failures become an error of one line.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import GCSStore, HTTPStore, S3Store
from zarr.storage import ObjectStore

from spectile.catalog.errors import SpectileError, StoreError
from spectile.catalog.urls import Location
from spectile.pipeline.store.base import (
    TRIES,
    Changed,
    Exists,
    Storage,
    agree,
    check_size,
    checked,
    too_large,
)

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config
    from zarr.abc.buffer import Buffer, BufferPrototype
    from zarr.abc.store import ByteRequest

RETRY: RetryConfig = {
    "max_retries": 8,
    "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=15), "base": 2},
    "retry_timeout": timedelta(minutes=3),
}
"""Time limit for retries, half a minute: enough for a busy store, and the delay for a wrong endpoint."""
REQUEST_TIMEOUT = timedelta(minutes=5)
"""Time limit of one request; a shard of 100 MB then needs a connection of 3 Mbit/s."""

_CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_NO_SIGN_REQUEST=YES for a public bucket",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or GOOGLE_SKIP_SIGNATURE=true for a public bucket",
    "https": "give a URL that is signed and not expired",
}


def endpoint() -> str | None:
    """The S3 endpoint that the environment names, or None for Amazon's."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


def unsigned() -> bool:
    """Whether requests to S3 are unsigned, for public buckets."""
    return os.environ.get("AWS_NO_SIGN_REQUEST", "").lower() in ("yes", "true", "1")


def connect(location: Location, prefix: str = "") -> S3Store | GCSStore | HTTPStore:
    """A client of a bucket, below a prefix; of an https URL, a client of that one file, with the key ``""``.

    Raises
    ------
    StoreError : the environment's settings contradict each other.
    """
    options: ClientConfig = {"timeout": REQUEST_TIMEOUT, "connect_timeout": timedelta(seconds=10)}
    with told(str(location)):
        if location.scheme == "s3":
            if (endpoint() or "").startswith("http://"):
                options["allow_http"] = True
            config: S3Config = {"skip_signature": True} if unsigned() else {}
            return S3Store(
                location.host, prefix=prefix or None, config=config, client_options=options,
                retry_config=RETRY,
            )  # fmt: skip
        if location.scheme == "gs":
            return GCSStore(location.host, prefix=prefix or None, client_options=options, retry_config=RETRY)
        options["allow_http"] = location.scheme == "http"
        return HTTPStore.from_url(location.url, client_options=options, retry_config=RETRY)


@contextmanager
def told(where: str, kind: type[SpectileError] = StoreError) -> Iterator[None]:
    """Turn errors of the client into one of ours, without the requested URL.

    Raises
    ------
    StoreError : or ``kind``, for every error of the client.
    """
    try:
        yield
    except (BaseError, FileNotFoundError, ValueError) as err:
        raise explain(err, where, kind) from None


def explain(err: Exception, where: str, kind: type[SpectileError] = StoreError) -> SpectileError:
    """The client's long error as one line."""
    text = str(err).split("Debug source")[0]
    remedy = _CREDENTIALS.get(where[:2], _CREDENTIALS["https"])
    code = re.search(r"<Code>(\w+)</Code>", text)
    number = re.search(r"status code: (\d+)", text)
    status = int(number.group(1)) if number else 0
    told_code = " ".join(match.group(1) for match in (number, code) if match) or None
    retries = re.search(r"after (\d+) retries", text)
    tried = f", tried {int(retries.group(1)) + 1} times" if retries else ""
    if "169.254.169.254" in text or "Missing" in text:
        return kind("no credentials", where=where, remedy=remedy)
    if (code and code.group(1) == "NoSuchBucket") or "bucket does not exist" in text:
        return kind("no such bucket", where=where, remedy="check its name, the endpoint and the project")
    if isinstance(err, FileNotFoundError) or status in (404, 410):
        return kind("no such object", where=where, remedy="check the URL")
    if isinstance(err, (PermissionDeniedError, UnauthenticatedError)) or status in (401, 403):
        return kind("no permission", where=where, got=told_code, remedy=remedy)
    if isinstance(err, NotSupportedError):
        return kind(
            "the server gives no parts of files", where=where, remedy="copy the file here, or elsewhere"
        )
    if "redirect" in text:
        return kind(
            "the bucket is in another region", where=where, remedy="set AWS_REGION to the bucket's region"
        )
    if status:
        return kind("the store refuses", where=where, got=f"{told_code}{tried}", remedy="try again later")
    why = re.search(r"HTTP error: (.+)", text)
    if why:
        return kind(
            "the store cannot be reached", where=where, got=f"{why.group(1).strip()}{tried}",
            remedy="check the network and the endpoint",
        )  # fmt: skip
    return kind("the store fails", where=where, got=text.splitlines()[0][:200])


def bounded(answer: Any, where: str, most: int) -> bytes:
    """The body of an answer, at most ``most`` bytes; the size that the server states is not trusted.

    Raises
    ------
    UsageError : the body is larger.
    """
    if answer.meta["size"] > most:
        raise too_large(where, most)
    value = bytearray()
    for part in answer.stream():
        value += part
        if len(value) > most:
            raise too_large(where, most)
    return bytes(value)


@dataclass(frozen=True)
class ObjectStorage(Storage):
    """A prefix of objects in a bucket.

    Every write is one request, which these stores make atomic. There is no multipart upload that a killed
    process could leave behind. Conditions are those of the store: If-None-Match and If-Match with the ETag on
    S3, generations on Google Cloud Storage.
    """

    location: Location
    """The bucket and the prefix."""

    def __str__(self) -> str:
        return str(self.location)

    def __getstate__(self) -> dict[str, object]:
        # A worker makes its own connection, with the credentials of its own environment.
        return {"location": self.location}

    @cached_property
    def _store(self) -> Any:
        return connect(self.location, self.location.key)

    @property
    def name(self) -> str:
        """The last part of the prefix."""
        return self.location.name

    @property
    def parent(self) -> ObjectStorage:
        """The prefix that contains this one, or the bucket."""
        return ObjectStorage(self.location.parent)

    def at(self, key: str) -> str:
        """The object's URL."""
        return f"{self}/{checked(key)}"

    def zarr(self, *, read_only: bool = False) -> ZarrObjects:
        """The same objects as a store for zarr."""
        return ZarrObjects(self._store, read_only=read_only, where=str(self))

    def read(self, key: str) -> tuple[bytes, str] | None:
        """The object and its version, or None if there is none."""
        with told(self.at(key)):
            try:
                answer = obstore.get(self._store, key)
                check_size(answer.meta["size"], self.at(key))
                return bytes(answer.bytes()), self._version(answer.meta)
            except FileNotFoundError as err:
                if "NoSuchBucket" in str(err):
                    raise
                return None

    def get_bounded(self, key: str, most: int) -> bytes | None:
        """The object, at most ``most`` bytes, or None if there is none."""
        with told(self.at(key)):
            try:
                return bounded(obstore.get(self._store, key), self.at(key), most)
            except FileNotFoundError as err:
                if "NoSuchBucket" in str(err):
                    raise
                return None

    def put(self, key: str, value: bytes) -> None:
        """Write an object in one request."""
        with told(self.at(key)):
            obstore.put(self._store, key, value, use_multipart=False)

    def put_new(self, key: str, value: bytes, guard: Callable[[], None] = agree) -> str:
        """Call the guard and write an object if there is none; returns its version."""
        guard()
        with told(self.at(key)):
            try:
                return self._version(obstore.put(self._store, key, value, mode="create"))
            except (AlreadyExistsError, PreconditionError) as err:
                return self._written_before(key, value, Exists(key), err)

    def put_if(self, key: str, value: bytes, version: str) -> str:
        """Replace an object that still has this version; returns its new version."""
        with told(self.at(key)):
            unchanged: Any = {self._kind_of_version: version}
            try:
                return self._version(obstore.put(self._store, key, value, mode=unchanged))
            except (AlreadyExistsError, PreconditionError, FileNotFoundError) as err:
                if "NoSuchBucket" in str(err):
                    raise
                return self._written_before(key, value, Changed(key), err)

    def put_guarded(self, key: str, value: bytes, guard: Callable[[], None]) -> None:
        """Read the current version, call the guard, and write on condition that the version is unchanged."""
        for _ in range(TRIES):
            version = self._head(key)
            guard()
            try:
                if version is None:
                    self.put_new(key, value)
                else:
                    self.put_if(key, value, version)
                return
            except (Exists, Changed):
                # By a process that lost its lease, or by a successor; then the guard raises.
                continue
        raise StoreError("the object is replaced again and again", where=self.at(key))

    def _head(self, key: str) -> str | None:
        with told(self.at(key)):
            try:
                return self._version(obstore.head(self._store, checked(key)))
            except FileNotFoundError:
                return None

    def _written_before(self, key: str, value: bytes, lost: Exception, err: Exception) -> str:
        # If an answer is lost, the client repeats the request. The first one makes its condition fail.
        current = self.read(key)
        if current is None or current[0] != value:
            raise lost from err
        return current[1]

    @property
    def _kind_of_version(self) -> str:
        return "e_tag" if self.location.scheme == "s3" else "version"

    def _version(self, answer: Any) -> str:
        version = answer[self._kind_of_version]
        if not version:
            raise StoreError("the store gives objects no version", where=str(self))
        return str(version)

    def delete(self, key: str) -> None:
        """Remove an object, if it exists."""
        with told(self.at(key)):
            try:
                obstore.delete(self._store, checked(key))
            except FileNotFoundError as err:  # Google Cloud Storage says so
                if "NoSuchBucket" in str(err):
                    raise

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys of the objects directly under a prefix, in order."""
        with told(str(self)):
            listing = obstore.list_with_delimiter(self._store, checked(prefix))
        yield from sorted(entry["path"] for entry in listing["objects"])

    def _all(self) -> Iterator[Any]:
        with told(str(self)):
            for batch in obstore.list(self._store, chunk_size=1000):
                yield from batch

    def exists(self) -> bool:
        """Whether there is any object under the prefix."""
        return any(True for _ in self._all())

    def size(self) -> int:
        """Bytes of all objects."""
        return sum(entry["size"] for entry in self._all())

    def walk(self) -> Iterator[str]:
        """The keys of all objects."""
        for entry in self._all():
            yield entry["path"]

    def sweep(self, *, beside: Sequence[str] = ()) -> None:
        """Does nothing: an unfinished write leaves nothing behind."""


class ZarrObjects(ObjectStore[Any]):
    """zarr's store over obstore, with whole objects in one request and our errors."""

    def __init__(self, store: Any, *, read_only: bool = False, where: str = "") -> None:
        super().__init__(store, read_only=read_only)
        self.where = where

    def with_read_only(self, read_only: bool = False) -> ZarrObjects:
        """The same store, read-only or writable."""
        return ZarrObjects(self.store, read_only=read_only, where=self.where)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """An object or a range of it."""
        with told(f"{self.where}/{key}"):
            return await super().get(key, prototype, byte_range)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Ranges of objects."""
        with told(self.where):
            return await super().get_partial_values(prototype, key_ranges)

    async def exists(self, key: str) -> bool:
        """Whether there is an object."""
        with told(f"{self.where}/{key}"):
            return await super().exists(key)

    async def set(self, key: str, value: Buffer) -> None:
        """Write an object in one request."""
        self._check_writable()
        with told(f"{self.where}/{key}"):
            await obstore.put_async(self.store, key, value.as_buffer_like(), use_multipart=False)

    async def list_dir(self, prefix: str) -> AsyncGenerator[str, None]:
        """Names directly under a prefix."""
        with told(self.where):
            async for name in super().list_dir(prefix):
                yield name
