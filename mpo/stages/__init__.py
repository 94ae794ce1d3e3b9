"""The stages of a run: functions from files to files. A stage imports no other stage."""
