"""What travels between the rooms: frozen types, read, written and validated. numpy and the standard library."""
