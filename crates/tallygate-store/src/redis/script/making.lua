
-- Making -----------------------------------------------------------------------------------------------------
-- Functions for what is not plain, file after file until the one that is asked for is there.

local sub, char, concat = string.sub, string.char, table.concat
local floor, max, min = math.floor, math.max, math.min

-- The cost of nothing.
local NOTHING = put('<I7I6', 0, 0)

operations = { 'reserve', 'finish', 'extend', 'peek', 'look_up', 'leave', 'lease', 'retract', 'knock' }

local make
local file, FILES = 0, 10
f = setmetatable({}, {
  __index = function(made, name)
    repeat
      assert(file < FILES, name)
      file = file + 1
      make(file)
    until rawget(made, name)
    return made[name]
  end,
})

