"""Names that configurations and tables give to ways of finding a direction: plain values, no library."""

DEFAULT = "mean_difference"  # the paper's; the pipeline's direction comes from it
ESTIMATOR_NAMES = (DEFAULT, "principal_component", "logistic_probe", "leace")
