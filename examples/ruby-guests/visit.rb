# Sign the book at an address; so many guests are there then: ruby visit.rb ADDRESS NAME COUNT
require "net/http"

address, name, count = ARGV
names = Net::HTTP.post(URI(address), name).body.lines(chomp: true)
abort "guests: #{names}" unless names.last == name && names.size == count.to_i
abort "no guest without a name" unless Net::HTTP.post(URI(address), " ").code == "400"
