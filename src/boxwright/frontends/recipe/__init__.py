"""The recipe frontend: Dockerfiles, unchanged, plus PORT and DBASE."""
