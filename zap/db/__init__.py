"""Everything that zap stores. These files are the ground (tables, engine, schema); the folders build on it."""
