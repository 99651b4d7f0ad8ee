"""One process that has imported everything starts all trainings of these tests."""

import pytest
from soak import Soak


@pytest.fixture(scope="session")
def survival(tmp_path_factory):
    """Starts trainings, and knows the ends of those that were never killed."""
    made = Soak(tmp_path_factory.mktemp("survival"))
    yield made
    made.close()
