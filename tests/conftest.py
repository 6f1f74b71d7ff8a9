"""Fixtures for all tests: the example shop, and one Ray for the whole session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

TEST_KEY = "a key for the tests, and for nothing else"


@pytest.fixture(scope="session")
def store() -> Path:
    """The fictional shop's folder."""
    return Path(__file__).parents[1] / "examples" / "store"


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """Ray on two CPUs, and a fixed privacy key, so that no test touches the user's own key file."""
    import ray

    from synthrec import cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHREC_PRIVACY_KEY", TEST_KEY)
        patch.delenv("RAY_ADDRESS", raising=False)
        cluster.start(num_cpus=2)
        yield
        ray.shutdown()
