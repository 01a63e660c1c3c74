"""Whether the messages that a version scores are still like those that it was trained for."""
