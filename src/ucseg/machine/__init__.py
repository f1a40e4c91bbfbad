"""What the computer does for every part: cores, threads, processes, and files that appear whole or not at all."""
