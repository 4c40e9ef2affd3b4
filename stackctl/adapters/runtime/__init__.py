"""Running processes in containers: runc held by conmon."""
