"""The running process: its signals, forks, memory and terminal."""
