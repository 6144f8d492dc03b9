-- Sum up a file of "name,number" lines: lua report.lua FILE [EXPECTED]
local sum = 0
for line in io.lines(arg[1]) do
  local name, number = line:match("^(.-),(%d+)$")
  assert(name, "no line of a report: " .. line)
  sum = sum + tonumber(number)
  print(("%-10s %5d"):format(name, number))
end
print(("%-10s %5d"):format("sum", sum))
os.exit(arg[2] == nil or tonumber(arg[2]) == sum)
