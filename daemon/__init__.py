"""The long-running process: command line, configuration, inbox, worker, schedule, gRPC edge, lifecycle."""
