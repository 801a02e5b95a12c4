"""The demonstration: synthetic people, and the story that is played with them on real parts."""
