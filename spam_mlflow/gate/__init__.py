"""The promotion gate: the checks that a version must pass before an alias may point to it."""
