"""What `blocks doctor` looks at, one file a subject."""
