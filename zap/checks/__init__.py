"""What is wrong with the settings and with their surroundings: one file for each subject, each finding with a hint."""
