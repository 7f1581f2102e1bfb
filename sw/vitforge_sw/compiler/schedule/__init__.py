"""Who does what and when: the schedules and their steps."""
