"""Work off the script thread: the pool, and every kind of job."""
