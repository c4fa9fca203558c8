"""`make stories`: what the watch promises, end to end on the real servers, each promise a story of its own."""
