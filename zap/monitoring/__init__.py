"""What happened after an answer, without I/O: drift, harm and trials. Numbers go in, verdicts come out."""
