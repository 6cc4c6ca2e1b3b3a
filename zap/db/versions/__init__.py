"""The model versions: artefacts, the version in production, promotions, tunings, and the exported model file."""
