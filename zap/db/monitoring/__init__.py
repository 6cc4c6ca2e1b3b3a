"""What happened after an answer: the follower's lease and marks, the answers that it follows, and their outcomes."""
