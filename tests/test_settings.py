"""Settings come from a TOML file and from options; options win, mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsi_cam.errors import SettingsError
from wsi_cam.settings import RunSettings, read_settings


def test_an_option_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text('overlap = 0.5\nmin-tissue = 1\ndevice = "cpu"\nmodel = "my_bundle"\n')
    settings = read_settings(config, {"overlap": 0.25, "device": None})
    assert settings.overlap == 0.25
    assert settings.min_tissue == 1.0
    assert isinstance(settings.min_tissue, float)
    assert settings.device == "cpu"
    assert settings.model == tmp_path / "my_bundle", "a path in the file is relative to the file"
    assert settings.target_layer == "layer4"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("overlpa = 0.5", "did you mean 'overlap'"),
        ("overlap = 'much'", "a float is wanted"),
        ("batch_size = 2.5", "a int is wanted"),
        ("batch_size = true", "a int is wanted"),
        ("overlap = 1.0", "at least 0 and below 1"),
        ("overlap = ", "not a TOML file"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    config = tmp_path / "run.toml"
    config.write_text(text)
    with pytest.raises(SettingsError, match=complaint):
        read_settings(config, {})


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"gone\.toml"):
        read_settings(tmp_path / "gone.toml", {})


@pytest.mark.parametrize(
    "wrong", [{"mpp": -1.0}, {"overlap": -0.1}, {"min_tissue": 2.0}, {"batch_size": 0}, {"ngff": "0.3"}]
)
def test_values_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        RunSettings(**wrong)  # type: ignore[arg-type]
