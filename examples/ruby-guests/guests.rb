require "pg"

# The guests that a database remembers.
class Guests
  def initialize
    names = { host: "HOST", port: "PORT", dbname: "NAME", user: "USER", password: "PASSWORD" }
    @connection = PG.connect(**names.transform_values { |name| ENV.fetch("DB_#{name}") })
    @connection.exec("SET client_min_messages TO warning")
    @connection.exec("CREATE TABLE IF NOT EXISTS guests (id serial PRIMARY KEY, name text NOT NULL)")
  end

  def add(name)
    raise ArgumentError, "a guest has a name" if name.strip.empty?

    @connection.exec_params("INSERT INTO guests (name) VALUES ($1)", [name.strip])
  end

  def all
    @connection.exec("SELECT name FROM guests ORDER BY id").column_values(0)
  end
end
