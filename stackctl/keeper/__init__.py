"""What outlives the daemon: resolver, reserved ports, ::1 listeners; no asyncio."""
