"""The log: every request with its prediction, and the predictions of trainings for their training rows."""
