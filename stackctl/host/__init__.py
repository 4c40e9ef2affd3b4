"""The only place that touches the kernel or starts a process."""
