"""The dtype that a run computes in: the one that this machine multiplies matrices fastest in."""

import json

import pytest
from omegaconf import OmegaConf

from pipeline.artifacts.layout import Layout
from pipeline.config.compose import compose
from pipeline.config.schema import Config
from pipeline.disk import files
from pipeline.entry import model as models
from pipeline.entry.given import settled
from pipeline.errors import UserError
from pipeline.model.loading import fastest
from pipeline.stages import engine as stage


def test_a_product_has_a_speed_in_every_choice():
    speeds = fastest.product_speeds(64, 128, "cpu")
    assert speeds.keys() == set(fastest.CHOICES)
    assert min(speeds.values()) > 1e6


def config_with(dtype: str) -> Config:
    config = OmegaConf.to_object(compose("tiny", "smoke", [f"engine.dtype={dtype}"]))
    assert isinstance(config, Config)
    return config


@pytest.mark.parametrize("fast", fastest.CHOICES)
def test_the_faster_one_is_taken_and_said(tmp_path, monkeypatch, capsys, fast):
    monkeypatch.setattr(models, "model_folder", lambda config: tmp_path)
    monkeypatch.setattr(fastest, "speeds", lambda folder, device: dict.fromkeys(fastest.CHOICES, 1e9) | {fast: 2e9})
    layout = Layout("m", "r", tmp_path)
    stage.engine(config_with("auto"), layout)
    assert files.read_json(layout.engine) == {"dtype": fast}, "no speed: the bytes must not differ between two runs"
    assert f"this run computes in {fast}" in capsys.readouterr().err
    assert settled(config_with("auto"), layout).engine.dtype == fast
    assert settled(config_with("float16"), layout).engine.dtype == "float16", "a fixed dtype is not overruled"


def test_a_fixed_dtype_is_written_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "model_folder", lambda config: tmp_path)
    layout = Layout("m", "r", tmp_path)
    stage.engine(config_with("float16"), layout)
    assert json.loads(layout.engine.read_text()) == {"dtype": "float16"}


def test_an_open_dtype_opens_no_model():
    with pytest.raises(UserError, match=r"engine\.dtype is auto and not settled"):
        models.open_model(config_with("auto"))
