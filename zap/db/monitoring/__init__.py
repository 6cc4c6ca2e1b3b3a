"""What happened after an answer: the follower's place, outcomes, sums of quality, monitors, alarms and trials."""
