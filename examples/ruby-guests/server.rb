require "webrick"
require_relative "guests"

guests = Guests.new
server = WEBrick::HTTPServer.new(Port: ENV.fetch("PORT", "8080").to_i, AccessLog: [])
server.mount_proc("/") do |request, response|
  guests.add(request.body) if request.request_method == "POST"
  response.body = guests.all.join("\n")
rescue ArgumentError => e
  response.status = 400
  response.body = e.message
end
%w[INT TERM].each { |name| trap(name) { server.shutdown } }
server.start
