"""One run: schedule, loop, checkpoint, test loss."""
