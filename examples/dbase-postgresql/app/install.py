#!/usr/bin/python3
"""Makes the tables of the guest book and fills them, while the image is built."""

import guests

with guests.connect() as connection, connection.cursor() as cursor:
    cursor.execute("CREATE TABLE guest (id serial PRIMARY KEY, name text NOT NULL UNIQUE)")
    for name in ("Ada", "Grace", "Zoë"):
        cursor.execute("INSERT INTO guest (name) VALUES (%s)", (name,))
