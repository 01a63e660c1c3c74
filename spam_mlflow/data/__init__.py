"""Messages: where they come from, how they are split, and how training texts are augmented."""
