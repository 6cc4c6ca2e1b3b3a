"""What happened after an answer, as rows: alarms and their messages."""
