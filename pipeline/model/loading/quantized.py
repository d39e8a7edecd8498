"""Quantised weights: made at load by bitsandbytes for measuring, or undone at load."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import BitsAndBytesConfig
from transformers.utils.quantization_config import Mxfp4Config

from pipeline.disk.files import read_object
from pipeline.errors import UserError

# Bytes per number of weights and scales, embeddings left wide, rounded up.
BYTES = {"8bit": 1.2, "4bit": 0.8}


def quantization(folder: Path, dtype: torch.dtype, quantize: str) -> Any:
    """What `from_pretrained` is told of quantisation; None for plain weights.

    Weights stored as MXFP4 (gpt-oss) are dequantised. Raises UserError for other quantised
    repositories and when bitsandbytes is not installed.
    """
    stored = read_object(folder / "config.json").get("quantization_config")
    if isinstance(stored, dict) and stored.get("quant_method") == "mxfp4":
        return Mxfp4Config(dequantize=True)
    if stored:
        method = stored.get("quant_method") if isinstance(stored, dict) else stored
        raise UserError(
            f"{folder} holds weights quantised by {method}: name the full-precision repository "
            "in conf/model/, and set engine.quantize to measure it in 8 or 4 bits"
        )
    if not quantize:
        return None
    if find_spec("bitsandbytes") is None:
        raise UserError(f"engine.quantize={quantize} needs bitsandbytes: pip install 'refusal-direction[quantized]'")
    if quantize == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
