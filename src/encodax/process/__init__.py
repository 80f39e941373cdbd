"""The process that runs: its signals, forks, memory and terminal."""
