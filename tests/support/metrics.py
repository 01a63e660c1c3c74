"""Names of the metrics that are logged of the validation and of the test part."""

METRICS = (
    *("accuracy", "precision", "recall", "f1", "f1_best", "mcc", "pr_auc", "roc_auc"),
    *("ham_fpr", "recall_at_fpr_0_2pct", "ece", "brier"),
)
