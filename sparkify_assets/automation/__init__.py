"""What is run together, and when: jobs, schedules, and the sensor that looks for new log files."""
