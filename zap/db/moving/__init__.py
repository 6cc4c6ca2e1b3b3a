"""Whole databases: read table by table, compared, copied to another engine, backed up and checked."""
