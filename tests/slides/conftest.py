"""The picture that most slides of these tests hold."""

from __future__ import annotations

import pytest

from tests.make_slides import Image, tissue_image
from tests.slides.contract import HEIGHT, WIDTH


@pytest.fixture(scope="session")
def image() -> Image:
    return tissue_image(HEIGHT, WIDTH, [(60, 40, 150, 120)], seed=5)
