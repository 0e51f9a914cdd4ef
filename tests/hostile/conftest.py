"""Runs draw nothing here either."""

from tests.flows.conftest import _without_pictures  # noqa: F401
