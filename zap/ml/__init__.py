"""Learning and predicting, without I/O: features, history, model, evaluation, gate, inference, sample."""
