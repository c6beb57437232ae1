"""What consumers use: tasks are sent, sessions are watched."""
