"""What the kernel says of processes, namespaces, mounts and power."""
