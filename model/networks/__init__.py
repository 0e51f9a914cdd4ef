"""The networks: plain modules that know neither schedules nor scenes."""
