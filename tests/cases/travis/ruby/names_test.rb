require "test/unit"
require "redis"

class NamesTest < Test::Unit::TestCase
  def test_names_are_sorted
    redis = Redis.new(host: "127.0.0.1")
    redis.del("names")
    %w[b a c].each { |name| redis.rpush("names", name) }
    descending = ENV.fetch("ORDER") == "descending"
    sorted = redis.sort("names", order: descending ? "DESC ALPHA" : "ALPHA")
    assert_equal(descending ? %w[c b a] : %w[a b c], sorted)
  end
end
