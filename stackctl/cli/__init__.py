"""What you type: commands in, words and exit codes out."""
