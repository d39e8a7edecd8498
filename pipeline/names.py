"""Names that configurations, code and tables share: plain values, no library."""

EFFECTS = ("ablation", "subtraction", "addition")  # what an intervention does
RULES = ("paper", "calibrated")  # that choose a direction among the candidates

MEAN_DIFFERENCE = "mean_difference"  # the paper's estimator; the pipeline's direction comes from it
ESTIMATOR_NAMES = (MEAN_DIFFERENCE, "principal_component", "logistic_probe", "leace")
# On which additions of what estimators found are compared: as they are found; as long, or at the same KL, as the
# difference in means is.
OWN_LENGTH, EQUAL_NORM, EQUAL_KL = TERMS = ("own_length", "equal_norm", "equal_kl")
KL_TOLERANCE = 0.01  # of the KL that is asked for

SEARCH_OBJECTIVES = ("affirmative", "refusal")  # that a search of suffixes lowers

PROBE = "probe"
TEXT_JUDGES = ("substring", "markers")  # read the text alone, in no time
MODEL_REFUSAL_JUDGES = ("wildguard_refusal",)
REFUSAL_JUDGES = (*TEXT_JUDGES, *MODEL_REFUSAL_JUDGES)
MODEL_SAFETY_JUDGES = (
    *("llama_guard_2", "llama_guard_3", "llama_guard_4", "harmbench", "harmbench_mistral", "wildguard"),
    *("shieldgemma_2b", "shieldgemma_9b", "strongreject"),
)
SAFETY_JUDGES = (PROBE, *MODEL_SAFETY_JUDGES)
JUDGE_NAMES = (*REFUSAL_JUDGES, *SAFETY_JUDGES)

# Labels as they stand in files. A judge of refusal says one of the first row, a judge of safety one of the second.
REFUSED: dict[str, bool | None] = {"refused": True, "answered": False, "unknown": None}
UNSAFE: dict[str, bool | None] = {"unsafe": True, "safe": False, "unknown": None}
LABELS = tuple({**REFUSED, **UNSAFE})
