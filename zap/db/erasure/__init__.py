"""Everything that zap holds of one driver: find it, export it, remove it, and remember by a keyed hash it is gone."""
