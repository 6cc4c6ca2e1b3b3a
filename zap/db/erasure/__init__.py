"""Everything that zap holds of one driver: find, export and remove it, and store a keyed hash of the driver."""
