"""The flows: one file for each thing that zap does, which joins db, ml and formats in reading order."""
