require "test/unit"
require_relative "../guests"

class GuestsTest < Test::Unit::TestCase
  def test_guests_are_remembered_in_order
    guests = Guests.new
    guests.add(" Anna ")
    guests.add("Bob'; --")
    assert_equal(["Anna", "Bob'; --"], Guests.new.all)
  end

  def test_nobody_is_no_guest
    assert_raise(ArgumentError) { Guests.new.add(" ") }
  end
end
