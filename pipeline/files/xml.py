"""XML files that strangers wrote: read with a limit, and without entities, which can name files or grow."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from spectile.catalog.errors import SceneError, UsageError
from spectile.pipeline.store.base import read_bounded

MOST_BYTES = 16_000_000
"""Bytes of the largest XML file that is read."""


def read_xml(path: Path, kind: str) -> ElementTree.Element:
    """The root element of an XML file.

    Parameters
    ----------
    kind : what the file is, for messages.

    Raises
    ------
    SceneError : it cannot be read, is too large or no XML, or declares entities.
    """
    try:
        text = read_bounded(path, MOST_BYTES)
    except OSError as err:
        raise SceneError(f"the {kind} cannot be read", where=str(path), got=err.strerror) from err
    except UsageError as err:
        raise SceneError(f"the {kind} is too large or no file", where=str(path)) from err
    # Without zeros, so that UTF-16 hides nothing.
    if b"<!" in text.replace(b"\0", b"").replace(b"<!--", b""):
        raise SceneError(f"the {kind} declares entities of its own", where=str(path))
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as err:
        raise SceneError(f"not a {kind} that can be read", where=str(path), got=str(err)) from err
