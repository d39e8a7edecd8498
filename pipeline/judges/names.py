"""The judges by the name that conf/ and every table use, by what they say."""

from pipeline.judges.formats.formats import FORMATS

PROBE = "probe"
TEXT_JUDGES = ("substring", "markers")  # read the text alone, in no time
MODEL_REFUSAL_JUDGES = ("wildguard_refusal",)
REFUSAL_JUDGES = (*TEXT_JUDGES, *MODEL_REFUSAL_JUDGES)
SAFETY_JUDGES = (PROBE, *(name for name in FORMATS if name not in MODEL_REFUSAL_JUDGES))
NAMES = (*REFUSAL_JUDGES, *SAFETY_JUDGES)
