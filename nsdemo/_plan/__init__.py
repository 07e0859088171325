"""A request becomes a plan: steps in order, their system calls and their words."""
