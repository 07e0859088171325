"""A plan is carried out: processes, and what is left to wait for, enter and look at."""
