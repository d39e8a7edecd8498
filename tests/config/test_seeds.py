"""Settings of the experiment over seeds: each run by name, and what makes no sense refused."""

import re

import pytest

from pipeline.config.compose import compose
from pipeline.config.seeds import read_seeds
from pipeline.errors import UserError

GOOD = {"profile": "quick", "seeds": "[3, 5]", "draws": "2", "sampling": "own"}


def written(folder, **values):
    (folder / "experiment").mkdir()
    text = "".join(f"{key}: {value}\n" for key, value in {**GOOD, **values}.items())
    (folder / "experiment" / "seeds.yaml").write_text(text)
    return folder


def test_the_projects_own_are_five_seeds_and_three_draws_at_the_models_own_temperature():
    settings = read_seeds()
    assert settings.overrides[:5] == [[f"seed={seed}"] for seed in range(5)]
    assert settings.overrides[5:] == [[f"generate.draw={draw}", "generate.sampling=own", "seed=0"] for draw in range(3)]
    for overrides in settings.overrides:
        config = compose("qwen2_5_coder_0_5b", settings.profile, overrides)
        assert config.model.sampling == {"temperature": 0.7, "top_p": 0.8, "top_k": 20}


def test_sampling_by_numbers_is_an_override_that_composes(tmp_path):
    settings = read_seeds(written(tmp_path, sampling="{temperature: 0.5, top_k: 3}"))
    config = compose("tiny", "smoke", settings.overrides[-1])
    assert config.seed == 3
    assert config.generate.draw == 1
    assert config.generate.sampling == {"temperature": 0.5, "top_p": 1.0, "top_k": 3}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"seeds": "[1]"}, "seeds is [1]: use two whole numbers from 0, or more"),
        ({"seeds": "[1, 1]"}, "seeds is [1, 1]: use two"),
        ({"seeds": "[1, -1]"}, "seeds is [1, -1]: use two"),
        ({"draws": "-1"}, "draws is -1: use 0 or more"),
        ({"sampling": "null"}, "sampling is None: use own, or"),
        ({"sampling": "{top_p: 1.0}"}, "sampling is {'top_p': 1.0}"),
        ({"profile": "a/b"}, "profile 'a/b' is no name"),
        ({"more": "1"}, "more"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, values, said):
    with pytest.raises(UserError, match=re.escape(said)):
        read_seeds(written(tmp_path, **values))
